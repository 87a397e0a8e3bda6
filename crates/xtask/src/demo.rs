//! `cargo xtask demo`: a canteen to try, or the lunch played in it.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::arguments::{Demo, Ports};
use crate::lunch;
use crate::packages;
use crate::ports;
use crate::signal;
use crate::site::{self, OPERATOR_TOKEN, Site};
use crate::till::ChipNumber;
use crate::workspace;

/// Starts the demo; returns when it is over.
pub(crate) fn run(options: &Demo) -> anyhow::Result<()> {
    packages::require(packages::FOR_DEMO, options.no_install)?;
    let programs = workspace::build(options.release)?;
    // From here on Ctrl-C stops the parts in order.
    signal::catch();
    let (directory, ports) = place(options)?;
    ports::require_free(ports)?;
    let fresh = options.fresh || options.script;
    let mut site = Site::lay_out(programs, &directory, ports, fresh)?;
    site.start()?;
    if options.script {
        return lunch::play(&mut site);
    }
    greet(&site)?;
    wait(&mut site)?;
    println!("Stopping.");
    site.stop();
    Ok(())
}

/// Where the demo lies and listens. A lunch that is asked for without saying where is played beside
/// an open demo, not in it.
fn place(options: &Demo) -> anyhow::Result<(PathBuf, Ports)> {
    if let Some(directory) = &options.directory {
        return Ok((directory.clone(), options.ports));
    }
    let target = workspace::target()?;
    let usual = target.join("demo");
    if options.script && options.ports == Ports::default() && site::is_open(&usual)? {
        let directory = target.join("demo-script");
        println!(
            "A demo is open, so this one runs beside it, in {}.",
            directory.display()
        );
        return Ok((directory, ports::choose_free()?));
    }
    Ok((usual, options.ports))
}

fn greet(site: &Site) -> anyhow::Result<()> {
    let ports = site.ports();
    let (hub, page, gateway, readers) = (ports.hub, ports.page, ports.gateway, ports.readers);
    let directory = site.directory().display();
    let account = site.account(ChipNumber("72BF9961"))?;
    let port = if readers == Ports::default().readers {
        String::new()
    } else {
        format!(" --port {readers}")
    };
    println!(
        "\
The demo canteen is open.

  cashier page              http://127.0.0.1:{page}/
  hub, for operators        http://127.0.0.1:{hub}/
  hub, API documents        http://127.0.0.1:{hub}/docs
  hub, a statement          http://demo:{OPERATOR_TOKEN}@127.0.0.1:{hub}/statements/{account}
  card gateway simulator    http://127.0.0.1:{gateway}/

Ring something up on the cashier page, press Betal, and tap a chip in another terminal:

  cargo xtask tap 72BF9961{port}          149,50 kr., with automatic top-up under 50 kr.
  cargo xtask tap A10A8925{port}          a daily limit of 25 kr.
  cargo xtask tap 55667788{port}          a weekly limit of 50 kr.
  cargo xtask tap 99AABBCC{port}          a monthly limit of 40 kr.
  cargo xtask tap 11223344{port}          7,00 kr. only
  cargo xtask tap 04A1B2C3D4E5F6{port}    blocked

Any other program that speaks the virtual reader's protocol on 127.0.0.1:{readers} or :{second}
is a chip too. The technician's command:

  {tillctl} --socket {directory}/tilld.sock status

The hub's API wants the token {OPERATOR_TOKEN}. Logs and data are in {directory}. Ctrl-C ends the demo; what was sold stays until --fresh.",
        second = readers.saturating_add(1),
        tillctl = site.programs().tillctl.display(),
    );
    Ok(())
}

fn wait(site: &mut Site) -> anyhow::Result<()> {
    while !signal::caught() {
        site.check()?;
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}
