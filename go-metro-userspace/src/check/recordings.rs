//! Whether recordings of outliers can be written, where there are to be any.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statvfs::statvfs;
use nix::unistd::Uid;

use super::{Finding, Status, finding};
use crate::config::Config;
use crate::privileges::{self, user_name};
use crate::record::{Folder, FolderLimits, Unwritable};
use crate::status::client;

/// Where systemd has the folders of services whose user it makes up (systemd.exec(5), DynamicUser=), and whose it makes
/// them at each start.
const OF_SERVICES: &str = "/var/lib/private";

/// What helps against every fault of the folder.
const ELSEWHERE: &str = "set `record.folder` to another folder";

/// What is found of the folder; nothing where no file is made.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    if !config.record.makes_files() {
        return Vec::new();
    }
    let folder = &config.record.folder;
    let subject = format!("recordings in {}", folder.display());
    match fs::metadata(folder) {
        Ok(there) if there.is_dir() => of_folder(config, &there, &subject),
        Ok(_) => {
            let fix = "remove what is there, or set `record.folder` to a folder".to_owned();
            vec![finding(Status::Fail, &subject, "is no folder", Some(fix))]
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            vec![absent(config, &subject)]
        }
        Err(error) => {
            let fix = format!("let user {} enter the folders above it", user_name(Uid::effective()));
            vec![finding(Status::Fail, &subject, error.to_string(), Some(fix))]
        }
    }
}

/// Whether it can be made, which happens at the start, before any right is given up.
fn absent(config: &Config, subject: &str) -> Finding {
    let folder = &config.record.folder;
    match of_record(config).try_out() {
        Ok(()) => finding(Status::Ok, subject, "is made at the start", None),
        Err(error) => {
            let (path, user) = (folder.display(), Uid::effective());
            let Unwritable { why, remedy } = Unwritable::of(folder, error, user).unwrap_or_else(|| Unwritable {
                why: error.desc().to_owned(),
                remedy: Some(format!("as root: mkdir -p {path} && chown {user} {path}")),
            });
            let above = folder.ancestors().skip(1).find(|above| above.exists()).unwrap_or(Path::new("/"));
            let detail = format!("does not exist and cannot be made in {}: {why}", above.display());
            finding(Status::Fail, subject, detail, Some(or_elsewhere(remedy)))
        }
    }
}

fn or_elsewhere(remedy: Option<String>) -> String {
    remedy.map_or_else(|| ELSEWHERE.to_owned(), |remedy| format!("{remedy}; or {ELSEWHERE}"))
}

fn of_record(config: &Config) -> Folder {
    let record = &config.record;
    Folder::new(&record.folder, FolderLimits { files: record.files, bytes: record.size.into() })
}

fn of_folder(config: &Config, there: &Metadata, subject: &str) -> Vec<Finding> {
    let folder = &config.record.folder;
    let mut findings = Vec::new();
    let why = unwritable(config, there).map_err(|(detail, fix)| {
        findings.push(finding(Status::Fail, subject, detail, Some(fix)));
    });
    if there.permissions().mode() & 0o002 != 0 {
        let detail = "everybody may write there: others can remove recordings, and fill the disk in their name";
        let fix = format!(
            "chmod o-w {0}, or set `record.folder` to a folder of its own, such as {0}/go-metro",
            folder.display()
        );
        findings.push(finding(Status::Warn, subject, detail, Some(fix)));
    }
    // Where nothing can be written, it does not matter how much is free.
    let (Ok(why), Ok((free, wanted))) = (why, room(config)) else { return findings };
    if free < wanted {
        let detail = format!("{} are free, and recordings may take {} more", size(free), size(wanted));
        let fix = "free some space, or lower `record.size`; what does not fit is not written".to_owned();
        findings.push(finding(Status::Warn, subject, detail, Some(fix)));
    }
    if findings.is_empty() {
        findings.push(finding(Status::Ok, subject, format!("{why}, and {} are free", size(free)), None));
    }
    findings
}

/// Why it can be written; or that it cannot be done, and how it could.
fn unwritable(config: &Config, there: &Metadata) -> Result<String, (String, String)> {
    let folder = &config.record.folder;
    // The daemon that runs, or one that is started as this is.
    let daemon = config.status_socket.as_deref().and_then(|socket| client::user(socket).ok());
    let writer = daemon.unwrap_or(Uid::effective());
    let is_services = fs::canonicalize(folder).is_ok_and(|path| path.starts_with(OF_SERVICES));
    let named = format!("user {}", user_name(writer));
    if is_services && daemon.is_none() {
        return Ok("systemd makes it the service's at each start".to_owned());
    }
    let is_own = writer == Uid::effective();
    let folder_of = of_record(config);
    let tried = if is_own { try_here(&folder_of, config.sandbox) } else { try_for(writer, &folder_of, there) };
    let Err(error) = tried else { return Ok(format!("{named} may write there")) };
    let Unwritable { why, remedy } = Unwritable::of(folder, error, writer).unwrap_or_else(|| Unwritable {
        why: error.desc().to_owned(),
        remedy: Some(format!("let {named} write there")),
    });
    Err((format!("cannot be written: {why}"), or_elsewhere(remedy)))
}

/// Whether this process's user may, as far as the thread that writes has rights: none, where the daemon is confined.
fn try_here(folder: &Folder, is_confined: bool) -> Result<(), Errno> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if is_confined {
                privileges::give_up_all();
            }
            folder.try_out()
        });
        thread.join().unwrap_or(Err(Errno::EAGAIN))
    })
}

/// Whether another user may: by the mode, unless nobody may. Where root cannot, with all its rights, nobody can.
fn try_for(user: Uid, folder: &Folder, there: &Metadata) -> Result<(), Errno> {
    match folder.try_out() {
        Err(error @ (Errno::EROFS | Errno::EPERM)) => Err(error),
        Err(error) if Uid::effective().is_root() => Err(error),
        _ if allows(there, user) => Ok(()),
        _ => Err(Errno::EACCES),
    }
}

/// Whether the mode lets another user write, whose groups are not known.
fn allows(there: &Metadata, user: Uid) -> bool {
    let mode = there.permissions().mode();
    if there.uid() == user.as_raw() { mode & 0o300 == 0o300 } else { mode & 0o030 == 0o030 || mode & 0o003 == 0o003 }
}

/// Bytes that are free for who is not root, and that recordings may take beside those that are there.
fn room(config: &Config) -> io::Result<(u64, u64)> {
    let record = &config.record;
    let used = of_record(config).used().unwrap_or_default();
    let system = statvfs(&record.folder)?;
    let wanted = u64::from(record.size).saturating_sub(used);
    Ok((system.blocks_available().saturating_mul(system.fragment_size()), wanted))
}

fn size(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use super::*;

    /// What is found of a folder, with these keys beside.
    fn found(folder: &Path, keys: &str) -> Vec<(Status, String)> {
        let record = format!("{{memory: 1MiB, threshold: 1s, folder: '{}'{keys}}}", folder.display());
        let text = format!(
            "init_config: {{record: {record}, status_socket: off}}\ninstances: [{{interface: lo, ips: ['::1']}}]\n"
        );
        let config = Config::parse(&text, Path::new("c"), &|_| None).unwrap();
        let line = |found: Finding| (found.status, format!("{}: {:?}", found.detail, found.fix));
        findings(&config).into_iter().map(line).collect()
    }

    fn only(found: &[(Status, String)], status: Status, said: &str) {
        let [(its, text)] = found else { panic!("{found:?}") };
        assert!(*its == status && text.contains(said), "{found:?}");
    }

    #[test]
    fn a_folder_that_can_be_written_is_fine_and_one_that_is_not_there_is_made() {
        let folder = tempfile::tempdir().unwrap();
        only(&found(folder.path(), ", size: 1MiB"), Status::Ok, "are free");
        only(&found(&folder.path().join("a/b"), ""), Status::Ok, "is made at the start");
        fs::write(folder.path().join("file"), "").unwrap();
        only(&found(&folder.path().join("file"), ""), Status::Fail, "is no folder");
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["file"], "what was tried is gone");
        let config = |record: &str| {
            let text = format!("init_config: {{record: {record}}}\ninstances: [{{interface: lo, ips: ['::1']}}]\n");
            Config::parse(&text, Path::new("c"), &|_| None).unwrap()
        };
        assert!(findings(&config("{memory: 1MiB, folder: /nowhere}")).is_empty(), "by hand no file is made there");
    }

    #[test]
    fn one_that_cannot_be_made_fails_by_what_is_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "").unwrap();
        std::os::unix::fs::symlink(at("nowhere"), at("link")).unwrap();
        for (path, why) in [
            (at("file/below"), format!("cannot be made in {0}: {0} is no folder", at("file").display())),
            (at("link"), format!("{} is a symbolic link to what does not exist", at("link").display())),
            (at("link/below"), format!("{} is a symbolic link to what does not exist", at("link").display())),
            ("/proc/go-metro/recordings".into(), "/proc is on procfs, whose files the kernel makes".to_owned()),
            ("/proc/self".into(), "cannot be written: /proc/self is on procfs".to_owned()),
            ("/sys/go-metro".into(), "/sys is on sysfs, whose files the kernel makes".to_owned()),
            ("/sys/kernel".into(), "cannot be written: /sys/kernel is on sysfs".to_owned()),
        ] {
            only(&found(&path, ""), Status::Fail, &why);
            only(&found(&path, ""), Status::Fail, "set `record.folder` to another folder");
        }
        assert!(!at("nowhere").exists());
    }

    #[test]
    fn one_that_everybody_can_write_is_doubted() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        only(&found(folder.path(), ", size: 1MiB"), Status::Warn, "everybody may write there");
    }

    #[test]
    fn one_of_another_user_cannot_be_written_by_root_who_gives_up_the_right_to() {
        let folder = tempfile::tempdir().unwrap();
        if !Uid::effective().is_root() {
            println!("skipped: only root can give a folder away");
            return;
        }
        chown(folder.path(), Some(4242), None).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let text = "belongs to user 4242, mode 0755";
        only(&found(folder.path(), ""), Status::Fail, text);
        only(&found(folder.path(), ""), Status::Fail, &format!("chown 0 {}", folder.path().display()));
    }

    #[test]
    fn the_mode_says_whether_another_user_may_write() {
        let folder = tempfile::tempdir().unwrap();
        let allowed = |mode, user| {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            allows(&fs::metadata(folder.path()).unwrap(), Uid::from_raw(user))
        };
        let own = fs::metadata(folder.path()).unwrap().uid();
        assert!(allowed(0o700, own) && !allowed(0o500, own));
        assert!(allowed(0o703, own + 1) && !allowed(0o705, own + 1));
    }
}
