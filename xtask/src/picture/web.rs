//! docs/web.webp: the page of a real daemon in a real browser, with traffic over paths of which one loses frames for a
//! while.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use testing_lab::agent::Agent;
use testing_lab::traffic::talk;
use testing_lab::{INTERFACE, Lab, Over, browser};
use testing_support::workspace::{root, target};

use super::{FAR, address, expose};

const ADDRESS: &str = "127.0.0.1:9465";
/// Size of the browser's window.
const SIZE: (u32, u32) = (1440, 900);

/// Takes the picture.
pub(super) fn main(lab: &Lab, binary: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let conf = folder.path().join("conf.yaml");
    let text = format!(
        "init_config:\n  status_socket: off\n  outputs: [json]\n  metrics: [default, health, base]\n  web_listen: \
         {ADDRESS}\n  reverse_dns: false\ninstances:\n  - interface: {INTERFACE}\n    ips: [10.77.0.0/16]\n"
    );
    std::fs::write(&conf, text)?;
    let mut command = lab.a.namespace.command(binary);
    let mut daemon = Agent::spawn_command(command.arg("run").arg("-c").arg(&conf))?;
    daemon.ready()?;
    let stop = AtomicBool::new(false);
    let picture = root().join("docs/web.webp");
    let found = thread::scope(|scope| {
        for (last, _, pause) in FAR {
            let stop = &stop;
            scope.spawn(move || talk(lab, address(last).into(), Duration::from_millis(pause), stop));
        }
        let _over = Over(&stop);
        expose(lab, |step| if (30..36).contains(&step) { 0.04 } else { 0.0 });
        let asked = json!({
            "url": format!("http://{ADDRESS}/"),
            "rows": FAR.len(),
            "remote": address(FAR[2].0).to_string(),
            "widths": [],
            "webp": picture,
            "size": [SIZE.0, SIZE.1],
            "exposure": 5000,
        });
        browser::look(&lab.a, asked, &target().join("pictures/web"))
    })?;
    ensure!(found["trouble"] == json!([]), "{found:#}");
    println!("{}, {} bytes", picture.display(), picture.metadata()?.len());
    Ok(())
}
