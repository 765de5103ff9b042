//! Users and groups as people know them.

use nix::unistd::{Gid, Group, Uid, User};

/// A user, by name if it has one, and number.
pub(crate) fn user_name(user: Uid) -> String {
    named(User::from_uid(user).ok().flatten().map(|known| known.name), user.as_raw())
}

/// The same of a group.
pub(crate) fn group_name(group: Gid) -> String {
    named(Group::from_gid(group).ok().flatten().map(|known| known.name), group.as_raw())
}

fn named(name: Option<String>, number: u32) -> String {
    name.map_or_else(|| number.to_string(), |name| format!("{name} ({number})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_name_goes_by_it_and_the_number_is_said_too() {
        assert_eq!((user_name(Uid::from_raw(0)), group_name(Gid::from_raw(0))), ("root (0)".into(), "root (0)".into()));
        let [user, group] = [user_name(Uid::from_raw(4_000_042)), group_name(Gid::from_raw(4_000_042))];
        assert_eq!((user.as_str(), group.as_str()), ("4000042", "4000042"));
    }
}
