//! The DogStatsD server: absent, dead, slow, replaced, out of buffers.

use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::{Duration, Instant};

use testing_lab::statsd::Listener;

use super::support::{Conf, Heard, Injected, SOON, lab, rounds, start, statsd, wait, wait_until, while_talking};

#[test]
fn a_udp_server_that_is_absent_dies_and_returns_hears_of_every_sample_while_it_is_there() {
    let lab = lab();
    let conf = Conf::usual(&[]);
    // Nobody listens yet.
    let agent = start(&lab, &conf);
    rounds(&lab, 10);
    thread::sleep(Duration::from_millis(1500));
    let mut refused = 0;
    for time in ["comes", "returns"] {
        let server = statsd(&lab);
        wait_until(&server, &format!("a report once it {time}"), |heard| heard.count("go_metro.packets") > 0);
        let longest = rounds(&lab, 10);
        let heard = wait_until(&server, "the samples", |heard| heard.rtts().len() >= 10);
        heard.assert_true_rtts(longest, time);
        refused += heard.count("go_metro.send_errors");
        assert!(refused > 0, "{time}: what was refused is counted");
        // It dies.
        drop(server);
        thread::sleep(Duration::from_millis(1500));
    }
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn a_unix_socket_may_be_absent_replaced_and_slow() {
    let lab = lab();
    let conf = Conf::new();
    let path = conf.folder().join("dsd.socket");
    conf.write(&[&format!("statsd_socket: {}", path.display())], super::support::USUAL);
    let agent = start(&lab, &conf);
    thread::sleep(Duration::from_millis(1500));
    let mut errors = 0;
    for time in ["comes", "is replaced"] {
        let _ = std::fs::remove_file(&path);
        let server = Listener::unix(&path).unwrap();
        let longest = rounds(&lab, 10);
        let heard = wait_until(&server, &format!("samples once it {time}"), |heard| heard.rtts().len() >= 10);
        heard.assert_true_rtts(longest, time);
        errors += heard.count("go_metro.send_errors");
    }
    assert!(errors > 0, "what found nobody is counted");

    // One that does not read: the kernel takes a few datagrams, then sending waits, and gives up.
    std::fs::remove_file(&path).unwrap();
    let slow = UnixDatagram::bind(&path).unwrap();
    let (_, longest) = while_talking(&lab, || thread::sleep(Duration::from_secs(4)));
    slow.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut buffer = vec![0; 65_536];
    let mut heard = Heard(Vec::new());
    let deadline = Instant::now() + SOON;
    while heard.count("go_metro.send_errors") == 0 && Instant::now() < deadline {
        if let Ok(length) = slow.recv(&mut buffer) {
            heard.0.extend(testing_lab::statsd::parse(&buffer[..length]).unwrap());
        }
    }
    assert!(heard.count("go_metro.send_errors") > 0, "what it did not take is counted");
    heard.assert_true_rtts(longest, "slow");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

/// What has arrived at a socket that nobody reads, in datagrams; it is empty afterwards.
fn arrived(socket: &UnixDatagram) -> usize {
    socket.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 65_536];
    (0..).take_while(|_| socket.recv(&mut buffer).is_ok()).count()
}

#[test]
fn a_server_that_hangs_or_was_moved_away_does_not_keep_the_daemon_from_the_one_at_its_path() {
    let lab = lab();
    let conf = Conf::new();
    let [path, first, second, file] = ["dsd.socket", "first", "second", "file"].map(|name| conf.folder().join(name));
    let socket = format!("statsd_socket: {}", path.display());
    conf.write(&[&socket, &conf.status_line()], super::support::USUAL);
    // It holds its socket and does not read, as a stopped process does; its queue is full.
    let hangs = UnixDatagram::bind(&path).unwrap();
    let agent = start(&lab, &conf);
    wait("its queue is full", SOON, || conf.problems().contains("statsd unix://"));
    std::fs::remove_file(&path).unwrap();
    let server = Listener::unix(&path).unwrap();
    let longest = rounds(&lab, 10);
    let heard = wait_until(&server, "samples at the new server", |heard| heard.rtts().len() >= 10);
    heard.assert_true_rtts(longest, "behind a server that hangs");
    wait("all is well", SOON, || conf.problems().is_empty());
    drop((server, hangs));

    // A symbolic link that changes at one moment, away from servers that live on.
    let point = |to: &std::path::Path| {
        let link = conf.folder().join("next");
        std::os::unix::fs::symlink(to, &link).unwrap();
        std::fs::rename(&link, &path).unwrap();
    };
    let servers = [&first, &second].map(|path| Listener::unix(path).unwrap());
    for (server, at) in servers.iter().zip([&first, &second]) {
        point(at);
        let longest = rounds(&lab, 10);
        let heard = wait_until(server, "samples where the link leads", |heard| heard.rtts().len() >= 10);
        heard.assert_true_rtts(longest, "behind a link");
        wait("all is well", SOON, || conf.problems().is_empty());
    }
    drop(servers);
    // To nothing, and to no socket: nothing goes on to where it led.
    std::fs::write(&file, "").unwrap();
    let old = UnixDatagram::bind(conf.folder().join("old")).unwrap();
    for (to, why) in [(&conf.folder().join("absent"), "No such file"), (&file, "refused")] {
        point(&conf.folder().join("old"));
        wait("it is followed", SOON, || arrived(&old) > 0);
        point(to);
        wait(&format!("{why} is a problem"), SOON, || conf.problems().contains(why));
        arrived(&old);
        thread::sleep(Duration::from_secs(1));
        assert_eq!(arrived(&old), 0, "{why}: reports go on to where the link no longer leads");
    }
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}

#[test]
fn a_kernel_without_buffers_costs_datagrams_and_nothing_else() {
    let lab = lab();
    let server = statsd(&lab);
    let agent = start(&lab, &Conf::usual(&[]));
    wait_until(&server, "a report", |heard| heard.count("go_metro.packets") > 0);
    // What the kernel answers when it is short of memory for packets (send(2)).
    let fault = Injected::start(&agent, &["-e", "trace=sendto,sendmsg", "-e", "inject=sendto,sendmsg:error=ENOBUFS"]);
    // Reports are due each 0.3 s, and come until strace has attached.
    wait("no datagram for a second", SOON, || {
        drop(server.take());
        thread::sleep(Duration::from_secs(1));
        server.take().is_empty()
    });
    drop(fault);
    let longest = rounds(&lab, 10);
    let heard =
        wait_until(&server, "samples and errors", |h| h.rtts().len() >= 10 && h.count("go_metro.send_errors") > 0);
    heard.assert_true_rtts(longest, "after ENOBUFS");
    assert_eq!(agent.stop().unwrap().status.code(), Some(0));
}
