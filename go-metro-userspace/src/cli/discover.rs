//! What to watch when nobody said: the way to everywhere.

use crate::netlink::routes;

/// The interface of the default route, or else the only one with an address; and what made it the one, for people.
pub(super) fn interface() -> Result<(String, &'static str), String> {
    if let Ok(Some(name)) = routes::default_interface() {
        return Ok((name, "the interface of the default route"));
    }
    let mut others = routes::addressed_interfaces();
    match (others.pop(), others.is_empty()) {
        (Some(only), true) => Ok((only, "the only interface with an address")),
        (None, _) => Err("no default route and no interface with an address but loopback".to_owned()),
        (Some(last), false) => {
            others.push(last);
            Err(format!("no default route; these interfaces have addresses: {}", others.join(", ")))
        }
    }
}
