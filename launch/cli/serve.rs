//! `svgrl serve-rewards`: a config's scoring over HTTP.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};

use rewards::RewardsConfig;
use rewards::service::{Service, ServiceSetup};

use super::{CliFailure, SharedFlags, config, reward};
use crate::telemetry;

/// `svgrl serve-rewards`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  svgrl serve-rewards configs/quickstart.yaml
  svgrl serve-rewards config.yaml --addr 0.0.0.0:8700 --token-file token.txt
  curl -s 127.0.0.1:8700/score -d '{\"prompt\": \"a dot\", \"response\": \"<svg ..>\", \"label\": {\"svg\": \"<svg ..>\", \"task\": \"draw\"}}'
Clients for slime, verl, EasyR1 and TRL stand in launch/clients. SIGTERM and SIGINT end it after
what is in flight is answered.")]
pub struct Args {
    /// The config whose tasks score; its `rewards.endpoint` and `rewards.endpoints` are passed over.
    config: PathBuf,
    /// Where to listen; port 0 takes a free one, which the log names.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8700")]
    addr: String,
    /// File with the token that callers must show as `Authorization: Bearer TOKEN`; needed for any
    /// address but a loopback one.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Overrides, as for `train`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Runs the command.
pub fn run(args: &Args, shared: &SharedFlags) -> Result<(), CliFailure> {
    let token = args.token_file.as_deref().map(token).transpose()?;
    let addresses = addresses(&args.addr)?;
    if token.is_none() && addresses.iter().any(|address| !address.ip().is_loopback()) {
        return Err(CliFailure::input(format!(
            "--addr {}: an address other than loopback needs --token-file",
            args.addr
        )));
    }
    let config = config::load(&args.config, &args.set, shared)?.config;
    let here = RewardsConfig {
        endpoint: None,
        endpoints: Vec::new(),
        ..config.rewards.clone()
    };
    let tasks = trainer::scoring(&config.tasks);
    let service = Service::new(ServiceSetup {
        scorer: reward::scorer(&config, &here)?,
        tasks: &tasks,
        config: here.service,
        token,
    })?;
    let _log = telemetry::start_service(shared.verbosity())?;
    let listener = TcpListener::bind(&*addresses)
        .map_err(|error| CliFailure::other(format!("--addr {}: {error}", args.addr)))?;
    service.run(listener).map_err(CliFailure::other)
}

fn addresses(text: &str) -> Result<Vec<SocketAddr>, CliFailure> {
    let wrong = |said: String| CliFailure::input(format!("--addr {text}: {said}"));
    let found: Vec<_> = text
        .to_socket_addrs()
        .map_err(|error| wrong(error.to_string()))?
        .collect();
    match found.is_empty() {
        true => Err(wrong("no such address".into())),
        false => Ok(found),
    }
}

fn token(path: &Path) -> Result<String, CliFailure> {
    let wrong = |said: &str| CliFailure::input(format!("--token-file {}: {said}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error.to_string()))?;
    match text.trim_start_matches('\u{feff}').trim() {
        "" => Err(wrong("holds no token")),
        token => Ok(token.to_owned()),
    }
}
