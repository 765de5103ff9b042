//! Offloads of a device, as `ethtool -K` sets them.

use std::io;
use std::mem::zeroed;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};

// include/uapi/linux/ethtool.h
const ETHTOOL_STSO: u32 = 0x1f;
const ETHTOOL_SGRO: u32 = 0x2c;
/// include/uapi/linux/sockios.h
const SIOCETHTOOL: libc::Ioctl = 0x8946;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Has `device` of the current namespace merge what it receives.
pub(super) fn gro_on(device: &str) -> Result<()> {
    set(device, Value { command: ETHTOOL_SGRO, data: 1 }).with_context(|| format!("cannot turn GRO on for {device}"))
}

/// Has the stack cut super-segments before they reach `device` of the current namespace.
pub(super) fn tso_off(device: &str) -> Result<()> {
    set(device, Value { command: ETHTOOL_STSO, data: 0 }).with_context(|| format!("cannot turn TSO off for {device}"))
}

fn set(device: &str, mut value: Value) -> io::Result<()> {
    // Any socket will do: it says which namespace.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all zeros is a valid value of this plain struct.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request is an ifreq whose data is the ethtool_value that the command takes.
    if unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
