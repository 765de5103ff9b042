//! Numbers in packet headers that the classifier and the decoder in user space both read.

/// Values of an Ethernet header's type field (include/uapi/linux/if_ether.h).
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// A VLAN tag (IEEE 802.1Q).
    pub const VLAN: u16 = 0x8100;
    /// An outer VLAN tag (IEEE 802.1ad).
    pub const QINQ: u16 = 0x88a8;
    /// An outer VLAN tag, as some switches had it before 802.1ad.
    pub const OLD_QINQ: u16 = 0x9100;
    /// MPLS (RFC 5332 section 3).
    pub const MPLS: u16 = 0x8847;
    /// MPLS with an upstream-assigned label; multicast before (RFC 5332 section 3).
    pub const MPLS_UPSTREAM: u16 = 0x8848;

    /// Whether what follows is a VLAN tag.
    #[inline(always)]
    #[must_use]
    pub const fn is_vlan(ethertype: u16) -> bool {
        matches!(ethertype, VLAN | QINQ | OLD_QINQ)
    }
}

/// Values of IPv4's protocol field and of IPv6's next header field (IANA's list of protocol numbers).
pub mod protocol {
    /// IPv6: a header for every hop (RFC 8200 section 4.3).
    pub const HOP_BY_HOP: u8 = 0;
    /// IPv4 within IP (RFC 2003).
    pub const IPV4: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 within IP (RFC 2473).
    pub const IPV6: u8 = 41;
    /// IPv6: a routing header (RFC 8200 section 4.4).
    pub const ROUTING: u8 = 43;
    /// IPv6: a fragment header (RFC 8200 section 4.5).
    pub const FRAGMENT: u8 = 44;
    /// GRE (RFC 2784).
    pub const GRE: u8 = 47;
    /// An Authentication Header (RFC 4302).
    pub const AUTHENTICATION: u8 = 51;
    /// IPv6: options for the destination (RFC 8200 section 4.6).
    pub const DESTINATION: u8 = 60;
    /// IPv6: a mobility header (RFC 6275 section 6.1).
    pub const MOBILITY: u8 = 135;

    /// Whether it is TCP, or an IPv6 extension header that TCP may follow.
    #[inline(always)]
    #[must_use]
    pub const fn may_lead_to_tcp(next: u8) -> bool {
        matches!(next, TCP | HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION | MOBILITY)
    }
}

/// UDP ports of tunnels (IANA's list of service names and port numbers).
pub mod tunnel_port {
    /// GTP-U (3GPP TS 29.281 section 4.4.2).
    pub const GTP_U: u16 = 2152;
    /// VXLAN (RFC 7348 section 5).
    pub const VXLAN: u16 = 4789;
    /// VXLAN, as Linux had it before there was a number for it.
    pub const OLD_VXLAN: u16 = 8472;
    /// VXLAN's generic extension.
    pub const VXLAN_GPE: u16 = 4790;
    /// GENEVE (RFC 8926 section 3.3).
    pub const GENEVE: u16 = 6081;

    /// Those that the classifier takes for a tunnel.
    pub const ALL: [u16; 5] = [GTP_U, VXLAN, OLD_VXLAN, VXLAN_GPE, GENEVE];
}

/// The IP header.
pub mod ip {
    /// IPv6 extension headers that are followed. RFC 8200 section 4.1 lists seven that may precede TCP.
    pub const EXTENSIONS_MAX: u32 = 8;
    /// The fragment offset of IPv4, without flags (RFC 791 section 3.1).
    pub const V4_FRAGMENT_OFFSET: u16 = 0x1fff;
    /// The fragment offset of IPv6, without flags (RFC 8200 section 4.5).
    pub const V6_FRAGMENT_OFFSET: u16 = 0xfff8;
}

/// The TCP header (RFC 9293 section 3.1).
pub mod tcp {
    /// Bytes of it without options.
    pub const HEADER_LEN: u32 = 20;
}

/// Kinds of TCP options (IANA's list).
pub mod option {
    /// End of the list (RFC 9293 section 3.2).
    pub const END: u8 = 0;
    /// Padding (RFC 9293 section 3.2).
    pub const NOP: u8 = 1;
    /// SACK-permitted (RFC 2018 section 2).
    pub const SACK_PERMITTED: u8 = 4;
    /// SACK (RFC 2018 section 3).
    pub const SACK: u8 = 5;
    /// Timestamps (RFC 7323 section 3.2).
    pub const TIMESTAMPS: u8 = 8;
}
