//! What the kernel itself knows of a connection: `getsockopt(TCP_INFO)`.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::time::Duration;

/// The part of `struct tcp_info` (include/uapi/linux/tcp.h) that tests compare with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// Smoothed round-trip time (RFC 6298's SRTT).
    pub rtt: Duration,
    /// Its mean deviation (RTTVAR).
    pub rttvar: Duration,
    /// Least round-trip time seen.
    pub min_rtt: Duration,
    /// Segments sent again, in all.
    pub total_retrans: u32,
    /// Segments with payload that were sent.
    pub data_segs_out: u32,
}

// Offsets in struct tcp_info, which only ever grows at its end.
const RTT: usize = 68;
const RTTVAR: usize = 72;
const TOTAL_RETRANS: usize = 100;
const MIN_RTT: usize = 148;
const DATA_SEGS_OUT: usize = 156;

impl TcpInfo {
    /// Asks the kernel about `socket`.
    ///
    /// # Errors
    ///
    /// It is no TCP socket.
    pub fn of(socket: &impl AsFd) -> io::Result<Self> {
        let mut bytes = [0_u8; 256];
        let mut length = bytes.len() as libc::socklen_t;
        // SAFETY: pointer and length describe `bytes`, and the kernel writes no more than that.
        let result = unsafe {
            let fd = socket.as_fd().as_raw_fd();
            libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, bytes.as_mut_ptr().cast(), &raw mut length)
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let micros = |at: usize| Duration::from_micros(word(at).into());
        Ok(Self {
            rtt: micros(RTT),
            rttvar: micros(RTTVAR),
            min_rtt: micros(MIN_RTT),
            total_retrans: word(TOTAL_RETRANS),
            data_segs_out: word(DATA_SEGS_OUT),
        })
    }
}
