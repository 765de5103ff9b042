//! The places in which commands of the pages run: a host of the lab whose `/etc`, `/run` and `/usr/local/bin` are its
//! own, with the files that the pages speak of, a far host 25 ms away that is talked to all the time, or what a story
//! has ([`traffic`]), and mostly a daemon.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use testing_lab::agent;
use testing_lab::statsd::Listener;
use testing_lab::terminal::Terminal;
use testing_lab::{Lab, Link};
use testing_support::workspace::root;

use super::page::Picture;
use super::traffic::{NAMES, Story, Traffic};
use super::{picture, uploads};

/// What makes a host's directories its own, and then waits.
const ENTER: &str = "
mkdir -p etc run log local bin work
cp -a /etc/. etc/ && mkdir -p etc/go-metro etc/dd-agent/conf.d && echo '10.77.0.2 db.example.org' >> etc/hosts
mount --bind /usr/local/bin local && ln -s \"$PWD\"/local/* bin/ && rm -f bin/go-metro && mv go-metro bin/
mount --bind etc /etc && mount --bind log /var/log && mount --bind bin /usr/local/bin && mount --bind run /run
touch ready && exec sleep infinity";

/// A configuration as the pages have it; the report comes at once.
const CONFIGURATION: &str = "init_config:\n  report_interval: 1\n  prometheus_listen: 127.0.0.1:9464\ninstances:\n  \
                             - interface: eth0\n    ips: [10.77.0.0/16]\n    hosts: [db.example.org]\n    tags: \
                             [env:test]\n";

/// How long a program may take to draw, and to leave the terminal.
const SCREEN: Duration = Duration::from_secs(15);

/// How long it takes until there are all rows.
const ROWS: Duration = Duration::from_secs(3);

/// What differs from place to place.
struct Scene {
    configuration: String,
    has_daemon: bool,
    has_server: bool,
    is_unprivileged: bool,
    story: Option<Story>,
}

impl Scene {
    fn named(name: &str) -> Option<Self> {
        let plain = Self {
            configuration: CONFIGURATION.to_owned(),
            has_daemon: true,
            has_server: true,
            is_unprivileged: false,
            story: None,
        };
        if let Some(story) = Story::named(name) {
            return Some(Self { configuration: story.configuration(CONFIGURATION), story: Some(story), ..plain });
        }
        let with = |from: &str, to: &str| CONFIGURATION.replace(from, to);
        Some(match name {
            // A running daemon, all well.
            "daemon" => plain,
            // No daemon yet.
            "alone" => Self { has_daemon: false, ..plain },
            // The same, and no configuration where one is looked for.
            "bare" => Self { has_daemon: false, configuration: String::new(), ..plain },
            // A configuration with two mistakes.
            "broken" => Self {
                has_daemon: false,
                configuration:
                    "init_config:\n  report_intervall: 10\ninstances:\n  - interface: eth0\n    ips: [10.0.0.300]\n"
                        .to_owned(),
                ..plain
            },
            // Commands run as a user without any capability.
            "unprivileged" => Self { has_daemon: false, is_unprivileged: true, ..plain },
            // Nobody is at the DogStatsD port.
            "no-server" => Self { has_server: false, ..plain },
            // The original's configuration, where Agent v5 kept it, and no other.
            "original" => Self { has_daemon: false, configuration: String::new(), ..plain },
            // The peers are others than those that are configured.
            "other-target" => Self {
                configuration: with("10.77.0.0/16", "192.0.2.0/24").replace("    hosts: [db.example.org]\n", ""),
                ..plain
            },
            // An interface that is not there; no daemon.
            "absent" => Self { has_daemon: false, configuration: with("interface: eth0", "interface: eth9"), ..plain },
            // With the page for browsers.
            "web" => {
                Self { configuration: with("init_config:\n", "init_config:\n  web_listen: 127.0.0.1:9465\n"), ..plain }
            }
            // libpcap, though eBPF could be had.
            "pcap" => Self { configuration: with("init_config:\n", "init_config:\n  backend: pcap\n"), ..plain },
            _ => return None,
        })
    }
}

/// A place that is set.
pub(super) struct Stage {
    // In this order: what uses something goes before it.
    daemon: Option<Process>,
    _server: Option<Listener>,
    _traffic: Traffic,
    holder: Child,
    is_unprivileged: bool,
    folder: tempfile::TempDir,
    lab: Arc<Lab>,
}

impl Stage {
    /// Sets the scene of this name; none if there is none.
    pub(super) fn set(name: &str) -> Option<Self> {
        let scene = Scene::named(name)?;
        let lab = Arc::new(Lab::new(Link::Veth).unwrap());
        // Before the host's directories are its own: it makes control groups that are seen there.
        let traffic = Traffic::begin(&lab, scene.story);
        lab.a.namespace.ip("route add default via 10.77.0.2").unwrap();
        let folder = tempfile::Builder::new().prefix("go-metro-docs-").tempdir().unwrap();
        let path = folder.path();
        Command::new("chmod").arg("755").arg(path).status().unwrap();
        fs::copy(agent::binary().unwrap(), path.join("go-metro")).unwrap();
        let mut holder = lab.a.namespace.command("unshare");
        holder.args(["--mount", "--propagation", "private", "sh", "-ec", ENTER]).current_dir(path);
        let holder = holder.stdin(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        while !path.join("ready").exists() {
            assert!(start.elapsed() < Duration::from_secs(60), "the host's directories cannot be made");
            std::thread::sleep(Duration::from_millis(5));
        }
        if scene.story.is_some() {
            let mut hosts = File::options().append(true).open(path.join("etc/hosts")).unwrap();
            hosts.write_all(NAMES.as_bytes()).unwrap();
        }
        let work = path.join("work");
        // The pages name files of the repository.
        for name in ["packaging", "docs", "corpus", "conf.yaml.example"] {
            std::os::unix::fs::symlink(root().join(name), work.join(name)).unwrap();
        }
        fs::write(work.join("go-metro.yaml"), testing_e2e::ORIGINAL).unwrap();
        if !scene.configuration.is_empty() {
            fs::write(work.join("conf.yaml"), &scene.configuration).unwrap();
            fs::write(path.join("etc/go-metro/conf.yaml"), &scene.configuration).unwrap();
        }
        if name == "original" {
            fs::write(path.join("etc/dd-agent/conf.d/go-metro.yaml"), testing_e2e::ORIGINAL).unwrap();
        }
        let server = scene.has_server.then(|| Listener::udp(&lab.a, 8125).unwrap());
        uploads::listen(&lab.a);
        let is_unprivileged = scene.is_unprivileged;
        let mut stage = Self { daemon: None, _server: server, _traffic: traffic, holder, is_unprivileged, folder, lab };
        if scene.has_daemon {
            let mut daemon = stage.start("go-metro run");
            daemon.wait_for("capturing on");
            stage.daemon = Some(daemon);
            // A report or two, so that there is something to tell.
            std::thread::sleep(Duration::from_millis(2300));
        }
        Some(stage)
    }

    /// Starts a command of the shell.
    pub(super) fn start(&self, command: &str) -> Process {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let said = self.folder.path().join(format!("said-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let file = File::options().create(true).append(true).open(&said).unwrap();
        let mut process = Command::new("nsenter");
        process.args(["--target", &self.holder.id().to_string(), "--mount", "--net", "--"]);
        if self.is_unprivileged {
            process.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
        }
        process.args(["bash", "-o", "pipefail", "-c"]);
        // nsenter keeps the directory that it was started in, seen from outside.
        process.arg(format!("cd {}/work && {command}", self.folder.path().display()));
        let tasks = testing_e2e::xtask();
        let tasks = tasks.parent().unwrap().display();
        let path = format!("/usr/local/bin:{tasks}:{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
        process
            .env("PATH", path)
            .env("NO_COLOR", "1")
            .env("CI", "true")
            .env(agent::BINARY_VARIABLE, agent::binary().unwrap());
        for name in ["DD_AGENT_HOST", "DD_DOGSTATSD_PORT", "DD_DOGSTATSD_URL", "DD_ENTITY_ID", "DD_ENV", "DD_SERVICE"] {
            process.env_remove(name);
        }
        for (name, value) in uploads::ENVIRONMENT {
            process.env(name, value);
        }
        process.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).process_group(0);
        Process { child: process.spawn().unwrap(), said, status: None }
    }

    /// Runs a command on a terminal until it has drawn the far host's address, then quits it.
    pub(super) fn screen(&self, command: &str) -> Result<(), String> {
        self.on_terminal(command, (132, 30), |terminal| {
            let is_drawn = |screen: &str| screen.contains("10.77.0.1") && screen.contains(" 25.");
            terminal.wait_for(SCREEN, is_drawn).map(drop).map_err(|error| format!("{error:#}"))
        })
    }

    /// Runs a command on a terminal until it shows what a drawing has, then quits it.
    pub(super) fn picture(&self, command: &str, picture: &Picture) -> Result<(), String> {
        self.on_terminal(command, picture.size, |terminal| {
            let keys: Vec<&str> = picture.keys.iter().map(String::as_str).collect();
            let begun = terminal.wait_for(SCREEN, |screen| screen.contains("10.77.0.1"));
            // The rows that there are come one by one, and keys choose among them.
            std::thread::sleep(ROWS);
            let typed = begun.and_then(|_| if keys.is_empty() { Ok(()) } else { terminal.press(&keys) });
            typed.map_err(|error| format!("{error:#}"))?;
            picture::compare(terminal, command, picture)
        })
    }

    /// Runs a command on a terminal of this size for as long as `shown` looks at it, then quits it.
    fn on_terminal(
        &self,
        command: &str,
        size: (u16, u16),
        shown: impl FnOnce(&Terminal) -> Result<(), String>,
    ) -> Result<(), String> {
        let holder = self.holder.id();
        let inside = format!(
            "exec nsenter --target {holder} --mount --net -- sh -c 'trap : INT; cd {}/work; PATH=/usr/local/bin:$PATH \
             {command}; echo ended with $?; sleep 9'",
            self.folder.path().display()
        );
        let quit = if command.starts_with("go-metro top") { "q" } else { "C-c" };
        let terminal = Terminal::start(&self.lab.a, size, &inside).map_err(|error| format!("{error:#}"))?;
        shown(&terminal)?;
        let ended =
            terminal.press(&[quit]).and_then(|()| terminal.wait_for(SCREEN, |screen| screen.contains("ended with 0")));
        ended.map(drop).map_err(|error| format!("{error:#}"))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.daemon.take());
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A command that was started; killed when dropped.
pub(super) struct Process {
    child: Child,
    said: PathBuf,
    status: Option<i32>,
}

impl Process {
    /// What it printed so far, on both of its outputs.
    pub(super) fn lines(&self) -> Vec<String> {
        let text = fs::read(&self.said).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }

    /// Its exit status, if it has ended; of one that a signal ended, 128 and the signal's number.
    pub(super) fn ended(&mut self) -> Option<i32> {
        if self.status.is_none() {
            let status = self.child.try_wait().unwrap();
            self.status =
                status.map(|status| status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()));
        }
        self.status
    }

    /// Ctrl-C.
    pub(super) fn interrupt(&self) {
        let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT);
    }

    fn wait_for(&mut self, word: &str) {
        let start = Instant::now();
        while !self.lines().iter().any(|line| line.contains(word)) {
            let ended = self.ended();
            assert!(ended.is_none() && start.elapsed() < Duration::from_secs(60), "{ended:?}: {:?}", self.lines());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let group = Pid::from_raw(self.child.id().cast_signed());
            let _ = killpg(group, Signal::SIGTERM);
            let start = Instant::now();
            while self.ended().is_none() && start.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = killpg(group, Signal::SIGKILL);
            let _ = kill(group, Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}
