//! From control groups to the unit, container or pod that they are of (cgroups(7), `/proc/PID/cgroup`).
//!
//! Container runtimes name a container's group after its identifier: 64 hexadecimal digits, with Garden a UUID, on
//! Fargate 32 digits and a number. Kubernetes puts the groups of a pod's containers into one that is named after the
//! pod's UID. systemd names a group after its unit and puts it below the slices that it is in.

pub(crate) mod hierarchy;

/// Length of a container's identifier.
const CONTAINER_ID: usize = 64;
/// Length of a Fargate task's identifier.
const TASK_ID: usize = 32;

/// A process's groups: what its `/proc/PID/cgroup` says.
#[derive(Clone, Copy)]
pub(crate) struct Groups<'a>(pub &'a str);

impl<'a> Groups<'a> {
    /// A line's controllers, with commas between them, and the path of its group.
    fn lines(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            Some((parts.next()?, parts.next()?))
        })
    }

    /// The path of the group that these controllers have; that of version 2 has none (`""`).
    pub(crate) fn path(self, controllers: &str) -> Option<&'a str> {
        self.lines().find(|(of, _)| *of == controllers).map(|(_, path)| path)
    }

    /// The innermost container's identifier.
    pub(crate) fn container_id(self) -> Option<&'a str> {
        self.lines().find_map(|(_, path)| Group(path).container_id())
    }

    /// The tag of a pod, `pod_uid:UID`, or else of a container, `container_id:ID`. A pod's containers share its
    /// network, so a link leads to the pod and to none of them.
    pub(crate) fn tag(self) -> Option<String> {
        let pod = self.lines().find_map(|(_, path)| Group(path).pod_uid()).map(|uid| format!("pod_uid:{uid}"));
        pod.or_else(|| self.container_id().map(|id| format!("container_id:{id}")))
    }
}

/// The path of one group.
#[derive(Clone, Copy)]
pub(crate) struct Group<'a>(pub &'a str);

impl<'a> Group<'a> {
    /// The system's unit that it is of, as `systemctl status` finds it: what comes first below all slices
    /// (`cg_path_get_unit` of src/basic/cgroup-util.c). The units of a user's own manager belong to `user@UID.service`.
    pub(crate) fn unit(self) -> Option<&'a str> {
        let below = self.0.split('/').filter(|part| !part.is_empty());
        let name = below.skip_while(|part| part.ends_with(".slice")).map(unescaped).next()?;
        let is_unit = [".service", ".scope", ".socket", ".mount", ".swap"].iter().any(|kind| {
            // Nothing before the dot is no name.
            name.strip_suffix(kind).is_some_and(|name| !name.is_empty())
        });
        is_unit.then_some(name)
    }

    /// The innermost container's identifier.
    pub(crate) fn container_id(self) -> Option<&'a str> {
        self.0.rsplit('/').find_map(container_id)
    }

    /// The UID of the pod that it is in.
    pub(crate) fn pod_uid(self) -> Option<String> {
        pod_uid(self.0)
    }
}

/// A name that would be taken for one of the kernel's own files has an underscore in front (`cg_escape`).
fn unescaped(name: &str) -> &str {
    name.strip_prefix('_').unwrap_or(name)
}

/// `.../kubepods/burstable/podUID/...`, or with systemd `.../kubepods-burstable-podUID.slice/...`, with `_` for `-`.
fn pod_uid(path: &str) -> Option<String> {
    if !path.contains("kubepods") {
        return None;
    }
    path.rsplit('/').find_map(|group| {
        let (_, uid) = group.strip_suffix(".slice").unwrap_or(group).rsplit_once("pod")?;
        let uid = uid.replace('_', "-");
        // A UUID, or the hash that a static pod has.
        (is_uuid(&uid) || is_hex(&uid, 32)).then_some(uid)
    })
}

/// From a group's name: `ID`, `docker-ID.scope`, `cri-containerd-ID.scope`, `cri-containerd:ID` and the like; or a
/// UUID, or `32 DIGITS-NUMBER`.
fn container_id(group: &str) -> Option<&str> {
    let name = group.strip_suffix(".scope").unwrap_or(group);
    let id = name.rsplit(['-', ':']).next().filter(|id| is_hex(id, CONTAINER_ID));
    let is_task = |name: &&str| {
        let parts = name.split_once('-');
        parts.is_some_and(|(task, number)| is_hex(task, TASK_ID) && number.parse::<u64>().is_ok())
    };
    id.or_else(|| Some(name).filter(|name| is_uuid(name))).or_else(|| Some(name).filter(is_task))
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_uuid(text: &str) -> bool {
    let mut lengths = [8, 4, 4, 4, 12].into_iter();
    text.split('-').all(|part| lengths.next().is_some_and(|length| is_hex(part, length))) && lengths.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(file: &str) -> Option<String> {
        Groups(file).tag()
    }

    const ID: &str = "3f4d1c7a9e0b2d5f8a6c4e1b7d9f0a2c5e8b1d4f7a0c3e6b9d2f5a8c1e4b7d0f";
    const UID: &str = "0e5c7b9a-1d2f-4a3b-8c6d-5e4f3a2b1c0d";

    #[test]
    fn every_runtimes_way_of_naming_a_container_is_understood() {
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/system.slice/docker-{ID}.scope/init.scope"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/libpod_parent/libpod-{ID}"),
            format!("/system.slice/containerd.service/default:cri-containerd:{ID}"),
            // Of another control-group namespace: seen from inside a container beside it.
            format!("/../{ID}"),
            format!("/ecs/55091c13-b8cf-4801-b527-f4601742204d/{ID}"),
        ] {
            assert_eq!(tag(&format!("0::{path}\n")), Some(format!("container_id:{ID}")), "{path}");
        }
        for id in ["34dc0b5e626f2c5c4c5170e34b10e765-1234567890", "6f265890-5165-7fab-6b52-18d1cff0b1b2"] {
            assert_eq!(tag(&format!("1:cpu:/x/{id}\n")), Some(format!("container_id:{id}")));
        }
        let outer = ID.replace('3', "4");
        assert_eq!(tag(&format!("0::/docker/{outer}/docker/{ID}\n")), Some(format!("container_id:{ID}")));
        // Version 1, one line a hierarchy.
        assert_eq!(
            tag(&format!("12:cpuset:/\n3:memory:/docker/{ID}\n1:name=systemd:/docker/{ID}\n")),
            Some(format!("container_id:{ID}"))
        );
    }

    #[test]
    fn a_pods_link_leads_to_the_pod() {
        let systemd = UID.replace('-', "_");
        let hash = UID.replace('-', "");
        for (path, uid) in [
            (format!("/kubepods/burstable/pod{UID}/{ID}"), UID),
            (format!("/kubepods/pod{UID}/{ID}"), UID),
            (
                format!(
                    "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{systemd}.slice/\
                     cri-containerd-{ID}.scope"
                ),
                UID,
            ),
            (format!("/kubepods.slice/kubepods-pod{systemd}.slice/crio-{ID}.scope"), UID),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{hash}.slice/docker-{ID}.scope"
                ),
                &hash,
            ),
            (
                format!(
                    "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{systemd}.slice/\
                     cri-containerd-{ID}.scope"
                ),
                UID,
            ),
        ] {
            assert_eq!(tag(&format!("0::{path}\n")), Some(format!("pod_uid:{uid}")), "{path}");
        }
    }

    #[test]
    fn the_unit_of_a_group_is_what_comes_first_below_all_slices() {
        for (path, unit) in [
            ("/system.slice/nginx.service", "nginx.service"),
            ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"),
            ("/system.slice/ssh.service/sshd-session", "ssh.service"),
            ("/init.scope", "init.scope"),
            ("/user.slice/user-1000.slice/session-1.scope", "session-1.scope"),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox-4711.scope", "user@1000.service"),
            ("/machine.slice/machine-web\\x2d1.scope/payload", "machine-web\\x2d1.scope"),
            ("/system.slice/_cgroup.service", "cgroup.service"),
            ("/system.slice/cups.socket", "cups.socket"),
            ("/own.service", "own.service"),
        ] {
            assert_eq!(Group(path).unit(), Some(unit), "{path}");
        }
        for path in
            ["/", "", "/system.slice", "/docker/0f", "/kubepods/burstable", "/lxc.payload.web", "/a.slice/.scope"]
        {
            assert_eq!(Group(path).unit(), None, "{path}");
        }
    }

    #[test]
    fn the_unit_container_and_pod_of_one_group_are_told_apart() {
        let systemd = UID.replace('-', "_");
        let scope = format!("cri-containerd-{ID}.scope");
        let path = format!("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{systemd}.slice/{scope}");
        let group = Group(&path);
        assert_eq!(
            (group.unit(), group.container_id(), group.pod_uid().as_deref()),
            (Some(&*scope), Some(ID), Some(UID))
        );
        for (path, unit) in [
            // The driver `cgroupfs` of kubelet and Docker has no units.
            (format!("/kubepods/besteffort/pod{UID}/{ID}"), None),
            (format!("/docker/{ID}"), None),
            (format!("/system.slice/docker-{ID}.scope"), Some(format!("docker-{ID}.scope"))),
            // Podman of an ordinary user, and what conmon makes below it.
            (
                format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container"),
                Some("user@1000.service".to_owned()),
            ),
            (format!("/machine.slice/libpod-{ID}.scope/container"), Some(format!("libpod-{ID}.scope"))),
            (
                format!("/kubepods.slice/kubepods-pod{systemd}.slice/crio-{ID}.scope/container"),
                Some(format!("crio-{ID}.scope")),
            ),
        ] {
            let group = Group(&path);
            assert_eq!((group.unit(), group.container_id()), (unit.as_deref(), Some(ID)), "{path}");
        }
    }

    #[test]
    fn what_belongs_to_no_container_has_no_tag() {
        for path in
            ["/", "/system.slice/sshd.service", "/user.slice/user-1000.slice/session-1.scope", "/lxc.payload.web"]
        {
            assert_eq!(tag(&format!("0::{path}\n")), None, "{path}");
        }
        assert_eq!(tag(""), None);
        assert_eq!(tag(&format!("0::/docker/{}", &ID[1..])), None, "a digit short");
    }
}
