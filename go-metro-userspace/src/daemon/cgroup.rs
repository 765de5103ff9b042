//! From a process's control groups to the container or pod that it belongs to (cgroups(7), `/proc/PID/cgroup`).
//!
//! Container runtimes name a container's group after its identifier, 64 hexadecimal digits; Kubernetes puts the groups
//! of a pod's containers into one that is named after the pod's UID.

/// Length of a container's identifier.
const CONTAINER_ID: usize = 64;

/// The tag of a pod, `pod_uid:UID`, or else of a container, `container_id:ID`. A pod's containers share its network, so
/// a link leads to the pod and to none of them.
pub(super) fn tag(file: &str) -> Option<String> {
    // Hierarchy, controllers, path.
    let paths = || file.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let pod = paths().find_map(pod_uid).map(|uid| format!("pod_uid:{uid}"));
    pod.or_else(|| paths().find_map(container_id).map(|id| format!("container_id:{id}")))
}

/// `.../kubepods/burstable/podUID/...`, or with systemd `.../kubepods-burstable-podUID.slice/...`, with `_` for `-`.
fn pod_uid(path: &str) -> Option<String> {
    if !path.contains("kubepods") {
        return None;
    }
    path.rsplit('/').find_map(|group| {
        let (_, uid) = group.strip_suffix(".slice").unwrap_or(group).rsplit_once("pod")?;
        let uid = uid.replace('_', "-");
        let hex = |text: &str, length: usize| text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit());
        // A UUID, or the hash that a static pod has.
        let is_uuid = uid.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && hex(&uid.replace('-', ""), 32);
        (is_uuid || hex(&uid, 32)).then_some(uid)
    })
}

/// `ID`, `docker-ID.scope`, `cri-containerd-ID.scope`, `cri-containerd:ID` and the like; the innermost, as containers
/// may hold containers.
fn container_id(path: &str) -> Option<&str> {
    path.rsplit('/').find_map(|group| {
        let id = group.strip_suffix(".scope").unwrap_or(group).rsplit(['-', ':']).next()?;
        (id.len() == CONTAINER_ID && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            assert_eq!(tag(&format!("0::{path}\n")), Some(format!("container_id:{ID}")), "{path}");
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
