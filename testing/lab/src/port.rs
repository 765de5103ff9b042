//! Where the forwarder takes frames from and puts them: a packet socket on a veth end, or a TUN device.
//!
//! Both speak of a frame as `struct virtio_net_hdr` and the bytes behind it, which is how a super-segment whose
//! checksum is not yet computed passes through user space as what it is.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::frame::{Framing, TAG, VNET_HEADER, insert_tag};

/// The largest frame: a super-segment of 64 KiB with room for headers; hosts in the lab do not use BIG TCP.
const LARGEST: usize = 65_536 + 256;
/// Socket buffers hold what arrives while the forwarder waits for a processor.
const BUFFER: libc::c_int = 64 << 20;

/// One end of the path.
#[derive(Debug)]
pub enum Port {
    /// A packet socket on an interface.
    Packet(OwnedFd),
    /// A device without a link header.
    Tun(File),
}

/// A frame, and how long ago it left its sender.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) buffer: Vec<u8>,
    pub(super) age: Duration,
}

/// Where frames are read to; what is held is a copy of the right size.
#[derive(Debug)]
pub(super) struct Scratch(Box<[u8]>);

impl Scratch {
    pub(super) fn new() -> Self {
        Self(vec![0; LARGEST].into_boxed_slice())
    }
}

impl Port {
    /// A packet socket on `interface` of the current namespace.
    pub(super) fn packet(interface: &str) -> Result<Self> {
        Self::bound(interface, libc::ETH_P_ALL as u16)
    }

    /// A packet socket on `interface` of the current namespace that only sends.
    ///
    /// # Errors
    ///
    /// There is no such interface, or no right to open the socket.
    pub fn sender(interface: &str) -> Result<Self> {
        Self::bound(interface, 0)
    }

    fn bound(interface: &str, protocol: u16) -> Result<Self> {
        // SAFETY: a system call without pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("cannot open a packet socket");
        }
        // SAFETY: the descriptor is new and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        for (level, option, value) in [
            (libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1),
            (libc::SOL_PACKET, libc::PACKET_AUXDATA, 1),
            (libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1),
            (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1),
            (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER),
            (libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, BUFFER),
        ] {
            set_option(&socket, level, option, value)
                .with_context(|| format!("cannot set option {option} of a packet socket"))?;
        }
        let index = nix::net::if_::if_nametoindex(interface).with_context(|| format!("no interface {interface}"))?;
        // SAFETY: all zeros is a valid value of this plain struct.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = index.cast_signed();
        // SAFETY: pointer and length describe `address`.
        let bound = unsafe {
            let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size)
        };
        if bound < 0 {
            return Err(io::Error::last_os_error()).with_context(|| format!("cannot bind to {interface}"));
        }
        Ok(Self::Packet(socket))
    }

    /// A new TUN device `interface` in the current namespace.
    pub(super) fn tun(interface: &str) -> Result<Self> {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")
            .context("cannot open /dev/net/tun")?;
        // SAFETY: all zeros is a valid value of this plain struct.
        let mut request: libc::ifreq = unsafe { zeroed() };
        let name = CString::new(interface)?;
        for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
            *to = libc::c_char::from_ne_bytes([*from]);
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
        // SAFETY: the request is an ifreq, as TUNSETIFF takes.
        if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } < 0 {
            return Err(io::Error::last_os_error()).with_context(|| format!("cannot make TUN device {interface}"));
        }
        let offloads = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(offloads)) } < 0 {
            return Err(io::Error::last_os_error()).context("the TUN device refuses segmentation offload");
        }
        Ok(Self::Tun(device))
    }

    pub(super) fn framing(&self) -> Framing {
        match self {
            Self::Packet(_) => Framing::Ethernet,
            Self::Tun(_) => Framing::Ip,
        }
    }

    /// Reads one frame. None when there is no more for now.
    pub(super) fn receive(&mut self, scratch: &mut Scratch) -> io::Result<Option<Received>> {
        let result = match self {
            Self::Packet(socket) => receive_packet(socket, &mut scratch.0),
            Self::Tun(device) => device
                .read(&mut scratch.0)
                .map(|length| Received { buffer: scratch.0[..length].to_vec(), age: Duration::ZERO }),
        };
        match result {
            Ok(received) => Ok(Some(received)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends one frame; false if this end cannot take it now.
    #[must_use]
    pub fn send(&mut self, buffer: &[u8]) -> bool {
        match self {
            Self::Packet(socket) => {
                // SAFETY: pointer and length describe `buffer`.
                let sent =
                    unsafe { libc::send(socket.as_raw_fd(), buffer.as_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
                sent >= 0
            }
            Self::Tun(device) => device.write(buffer).is_ok(),
        }
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Packet(socket) => socket.as_fd(),
            Self::Tun(device) => device.as_fd(),
        }
    }
}

fn set_option(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: pointer and length describe `value`.
    let result = unsafe {
        let size = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Space for the two control messages, aligned as their headers must be.
#[repr(C, align(8))]
struct Control([u8; 128]);

fn receive_packet(socket: &OwnedFd, scratch: &mut [u8]) -> io::Result<Received> {
    let mut control = Control([0; 128]);
    let mut vector = libc::iovec { iov_base: scratch.as_mut_ptr().cast(), iov_len: scratch.len() };
    // SAFETY: all zeros is a valid value of this plain struct.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control.0).cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: `message` points to `vector`, which describes `scratch`, and to `control`; all outlive the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // Room for a tag that goes back in.
    let mut buffer = Vec::with_capacity(length + TAG);
    buffer.extend_from_slice(&scratch[..length]);

    let mut age = Duration::ZERO;
    let mut tag = None;
    // SAFETY: the kernel filled `message`; the macros walk its control messages and stay within them.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !header.is_null() {
        // SAFETY: not null, hence a header within `control`; its payload is of the type that level and kind say.
        unsafe {
            let data = libc::CMSG_DATA(header);
            match ((*header).cmsg_level, (*header).cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    age = since(data.cast::<libc::timespec>().read_unaligned());
                }
                (libc::SOL_PACKET, libc::PACKET_AUXDATA) => {
                    let extra = data.cast::<libc::tpacket_auxdata>().read_unaligned();
                    if extra.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                        tag = Some((extra.tp_vlan_tpid, extra.tp_vlan_tci));
                    }
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    if let Some((protocol, control)) = tag {
        insert_tag(&mut buffer, protocol, control);
    }
    debug_assert!(buffer.len() >= VNET_HEADER);
    Ok(Received { buffer, age })
}

/// How long ago the wall clock showed `stamp`.
fn since(stamp: libc::timespec) -> Duration {
    let stamp = Duration::new(stamp.tv_sec.try_into().unwrap_or(0), stamp.tv_nsec.try_into().unwrap_or(0));
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
        .saturating_sub(stamp)
        // A wall clock that was set in between says nothing.
        .min(Duration::from_millis(100))
}
