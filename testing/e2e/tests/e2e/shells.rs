//! Completion in real shells, on a real terminal, by the Tab key.

use std::fs;
use std::path::Path;
use std::time::Duration;

use testing_lab::terminal::Terminal;
use testing_lab::{Lab, Link, agent};

const LIMIT: Duration = Duration::from_secs(60);

/// A shell without its user's settings, with go-metro on its path and the script loaded as its manual says.
fn shell(folder: &Path, shell: &str) -> String {
    let script = folder.join(format!("{shell}.script"));
    let made = agent::run_once(["completions", shell]).unwrap();
    assert!(made.status.success(), "{made:?}");
    fs::write(&script, made.stdout.join("\n") + "\n").unwrap();
    let (folder, script) = (folder.display(), script.display());
    let start = match shell {
        "bash" => {
            fs::write(format!("{folder}/bashrc"), format!("PS1='> '; . {script}\n")).unwrap();
            format!("bash --noprofile --rcfile {folder}/bashrc -i")
        }
        "zsh" => {
            let settings = format!("PS1='> '; autoload -U compinit && compinit -u -D; . {script}\n");
            fs::write(format!("{folder}/.zshrc"), settings).unwrap();
            format!("ZDOTDIR={folder} zsh -i")
        }
        _ => {
            let settings = format!("function fish_prompt; echo '> '; end; source {script}");
            format!("HOME={folder} XDG_CONFIG_HOME={folder} fish --no-config --init-command \"{settings}\"")
        }
    };
    format!("cd {folder}; PATH={folder}/bin:$PATH; export PATH; {start}")
}

#[test]
fn every_verb_and_interface_is_completed_in_bash_zsh_and_fish() {
    let lab = Lab::new(Link::Veth).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("bin")).unwrap();
    std::os::unix::fs::symlink(agent::binary().unwrap(), folder.path().join("bin/go-metro")).unwrap();
    fs::write(folder.path().join("seen.pcap"), "").unwrap();
    for name in ["bash", "zsh", "fish"] {
        let terminal = Terminal::start(&lab.a, (120, 40), &shell(folder.path(), name)).unwrap();
        terminal.wait_for(LIMIT, |screen| screen.contains('>')).unwrap();
        for (typed, completed) in [
            ("go-metro stat", "go-metro status"),
            ("go-metro top --sock", "go-metro top --socket"),
            ("go-metro rel", "go-metro reload"),
            ("go-metro che", "go-metro check"),
            ("go-metro compl", "go-metro completions"),
            ("go-metro config sch", "go-metro config schema"),
            ("go-metro man --hel", "go-metro man --help"),
            ("go-metro run --backend eb", "go-metro run --backend ebpf"),
            ("go-metro run -i et", "go-metro run -i eth0"),
            ("go-metro top --interface defa", "go-metro top --interface default"),
            ("go-metro read see", "go-metro read seen.pcap"),
        ] {
            terminal.press(&["-l", typed]).unwrap();
            terminal.press(&["Tab"]).unwrap();
            let shown = terminal.wait_for(LIMIT, |screen| last(screen).contains(completed));
            shown.unwrap_or_else(|error| panic!("{name}: {typed}: {error}"));
            terminal.press(&["C-c"]).unwrap();
            terminal.wait_for(LIMIT, |screen| last(screen) == ">").unwrap();
        }
    }
}

/// The line that is being typed.
fn last(screen: &str) -> &str {
    screen.trim_end().lines().last().unwrap_or_default().trim_end()
}
