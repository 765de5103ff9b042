//! Reading from the packet, and from the kernel's description of it.

use core::mem::MaybeUninit;
use core::ptr;

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::{bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes};

/// A header that any bytes make a valid value of.
///
/// # Safety
///
/// Integers and arrays of integers only.
pub(crate) unsafe trait Header: Copy {}

// SAFETY: an integer.
unsafe impl Header for u16 {}
// SAFETY: an array of integers.
unsafe impl Header for [u16; 2] {}

/// What the kernel hands to the program; a constant in each entry point.
#[derive(Clone, Copy)]
pub(crate) enum Context {
    /// At a TC hook.
    Skb(*mut __sk_buff),
    /// In the driver.
    Xdp(*mut xdp_md),
}

/// A packet on a hook. It is never written to and never changed in shape.
#[derive(Clone, Copy)]
pub(crate) struct Packet {
    context: Context,
    data: usize,
    data_end: usize,
}

/// Reads a field of `__sk_buff` or `xdp_md`. Volatile, because the verifier wants each such read at the field's own
/// offset and size and the compiler would otherwise be free to merge or narrow it.
macro_rules! field {
    ($context:expr, $name:ident) => {
        // SAFETY: the kernel hands a valid context to the program, and the verifier checks each access to it.
        unsafe { ptr::read_volatile(&raw const (*$context).$name) }
    };
}

impl Packet {
    /// From the program's context.
    #[inline(always)]
    pub(crate) fn new(context: Context) -> Self {
        let (data, data_end) = match context {
            Context::Skb(skb) => (field!(skb, data), field!(skb, data_end)),
            Context::Xdp(xdp) => (field!(xdp, data), field!(xdp, data_end)),
        };
        Self { context, data: data as usize, data_end: data_end as usize }
    }

    /// Bytes from the start of what the hook sees (link header included, where there is one) to the end, all fragments
    /// and all parts of a super-segment together.
    #[inline(always)]
    pub(crate) fn len(self) -> u32 {
        match self.context {
            Context::Skb(skb) => field!(skb, len),
            // SAFETY: the context is the program's own. No packet is as long as a u32 can say.
            Context::Xdp(xdp) => unsafe { bpf_xdp_get_buff_len(xdp) as u32 },
        }
    }

    /// Segments that a super-segment is cut into or was merged from; 0 or 1 for what is none.
    #[inline(always)]
    pub(crate) fn segments(self) -> u32 {
        match self.context {
            Context::Skb(skb) => field!(skb, gso_segs),
            Context::Xdp(_) => 0,
        }
    }

    /// Index of the interface.
    #[inline(always)]
    pub(crate) fn ifindex(self) -> u32 {
        match self.context {
            Context::Skb(skb) => field!(skb, ifindex),
            Context::Xdp(xdp) => field!(xdp, ingress_ifindex),
        }
    }

    /// The protocol that the kernel took from the link header, as an ethertype in host byte order; 0 where it did not
    /// look yet.
    #[inline(always)]
    pub(crate) fn protocol(self) -> u16 {
        match self.context {
            Context::Skb(skb) => u16::from_be(field!(skb, protocol) as u16),
            Context::Xdp(_) => 0,
        }
    }

    /// VLAN tags that may be in front of the network header: the kernel takes one off before a TC hook.
    #[inline(always)]
    pub(crate) fn tags_max(self) -> u32 {
        match self.context {
            Context::Skb(_) => 2,
            Context::Xdp(_) => 3,
        }
    }

    /// When the packet is to leave, or 0.
    #[inline(always)]
    pub(crate) fn tstamp(self) -> u64 {
        match self.context {
            Context::Skb(skb) => field!(skb, tstamp),
            Context::Xdp(_) => 0,
        }
    }

    /// Which clock [`Self::tstamp`] is of. Only where the kernel has the field.
    #[inline(always)]
    pub(crate) fn tstamp_type(self) -> u8 {
        match self.context {
            Context::Skb(skb) => field!(skb, tstamp_type),
            Context::Xdp(_) => 0,
        }
    }

    /// Whether one of this host's sockets sends it. Only on egress, and where the kernel has [`Self::tstamp_type`].
    #[inline(always)]
    pub(crate) fn has_socket(self) -> bool {
        match self.context {
            // SAFETY: as in `field`; the field is a pointer that is only compared.
            Context::Skb(skb) => unsafe { !ptr::read_volatile(&raw const (*skb).__bindgen_anon_2.sk).is_null() },
            Context::Xdp(_) => false,
        }
    }

    /// The header at `offset`, or `None` where the packet ends before its end.
    #[inline(always)]
    pub(crate) fn read<T: Header>(self, offset: u32) -> Option<T> {
        let start = self.data + offset as usize;
        if start + size_of::<T>() <= self.data_end {
            // SAFETY: within the packet's linear part, as just checked; `T` takes any bytes.
            Some(unsafe { ptr::read_unaligned(start as *const T) })
        } else {
            self.load(offset)
        }
    }

    /// The header at `offset`, if it is in the packet's linear part.
    #[inline(always)]
    pub(crate) fn peek<T: Header>(self, offset: u32) -> Option<T> {
        let start = self.data + offset as usize;
        // SAFETY: as in `read`.
        (start + size_of::<T>() <= self.data_end).then(|| unsafe { ptr::read_unaligned(start as *const T) })
    }

    /// As [`Self::read`], but never directly: for what is not in the linear part, and for rare headers at offsets that
    /// the verifier would lose track of.
    #[inline(always)]
    pub(crate) fn load<T: Header>(self, offset: u32) -> Option<T> {
        let mut header = MaybeUninit::<T>::uninit();
        // SAFETY: a header has room for itself.
        let there = unsafe { self.copy(offset, header.as_mut_ptr().cast(), size_of::<T>() as u32) };
        // SAFETY: the helper wrote all of it; `T` takes any bytes.
        there.then(|| unsafe { header.assume_init() })
    }

    /// Copies `len` bytes at `offset` to `to`; whether they were there.
    ///
    /// # Safety
    ///
    /// `to` has room for `len` bytes. The verifier must see that too: `len` bounded, and not 0.
    #[inline(always)]
    pub(crate) unsafe fn copy(self, offset: u32, to: *mut u8, len: u32) -> bool {
        // SAFETY: the caller's promise; the helper checks the offset.
        unsafe {
            match self.context {
                Context::Skb(skb) => bpf_skb_load_bytes(skb.cast(), offset, to.cast(), len) == 0,
                Context::Xdp(xdp) => bpf_xdp_load_bytes(xdp, offset, to.cast(), len) == 0,
            }
        }
    }
}
