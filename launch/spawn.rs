//! `svgrl launch`: starts the local ranks of a run and stands guard over them.
//!
//! Each rank is this program again, with torchrun's variables in its
//! environment, so that `torchrun --no-python`, srun and Kubernetes can take
//! this command's place. The first rank that fails stops the others; a signal that
//! this command gets is every rank's, and they end by it together. Restarting is
//! left out: run the same command again and it resumes.

use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Set in the environment of every rank that this command starts, to this process' number.
const LAUNCHED: &str = "SVGRL_LAUNCHED";
const POLL: Duration = Duration::from_millis(50);

/// Start several ranks of a command on this machine.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  svgrl launch --nproc-per-node 2 -- train configs/quickstart.yaml
  svgrl launch --nproc-per-node 8 --nnodes 2 --node-rank 0 --rdzv node0:29500 -- train run.yaml")]
pub struct Args {
    /// Ranks to start on this machine, at least 1.
    #[arg(long, value_name = "N")]
    pub nproc_per_node: usize,
    /// Machines that take part; run this command on each.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub nnodes: usize,
    /// This machine's place among them, from 0.
    #[arg(long, value_name = "R", default_value_t = 0)]
    pub node_rank: usize,
    /// Where rank 0 meets the others; by default a free port of this machine.
    #[arg(long, value_name = "HOST:PORT")]
    pub rdzv: Option<String>,
    /// Seconds from the first failure's SIGTERM to the others until SIGKILL.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub grace_s: u64,
    /// The command that every rank runs, after `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

impl Args {
    /// `ranks` of `command` on this machine alone.
    pub fn local(ranks: usize, command: Vec<String>) -> Self {
        Self {
            nproc_per_node: ranks,
            nnodes: 1,
            node_rank: 0,
            rdzv: None,
            grace_s: 30,
            command,
        }
    }
}

/// Why no rank was started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The flags contradict each other; exit status 2.
    #[error("{0}")]
    Usage(String),
    /// The machine refused.
    #[error("could not {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// Starts the ranks and waits for them; returns the exit status for this
/// process: 0 when every rank ended with 0, else that of the first failure
/// (128 + N for a rank that signal N ended, and for ranks that this command's
/// signal N stopped before their end).
///
/// # Errors
/// When the flags contradict each other, or a rank cannot be started (those
/// already running are stopped then).
pub fn run(args: &Args) -> Result<u8, LaunchError> {
    let plan = Plan::of(args)?;
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(io("listen for signals"))?;
    let program = std::env::current_exe().map_err(io("find this program"))?;
    let commands = (0..args.nproc_per_node).map(|local| {
        let mut command = Command::new(&program);
        command.args(&args.command).envs(plan.variables(local));
        command
    });
    let ranks = start(commands, plan.first_rank)?;
    let grace = Duration::from_secs(args.grace_s);
    Ok(guard(ranks, plan.world_size, grace, || {
        signals.pending().collect()
    }))
}

/// In a rank that `svgrl launch` started: asks the system to end this process
/// when the launcher is killed, so that no rank is left behind. Elsewhere it
/// does nothing. Call it from the main thread.
pub fn die_with_launcher() {
    let Ok(launcher) = std::env::var(LAUNCHED) else {
        return;
    };
    // A kernel without this leaves the old behaviour.
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
    // A launcher that was killed before that sends nothing any more.
    let parent = getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if parent.is_none_or(|parent| parent != launcher) {
        std::process::exit(128 + SIGTERM);
    }
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> LaunchError {
    move |source| LaunchError::Io { what, source }
}

/// Who and where this machine's ranks are.
#[derive(Debug, PartialEq)]
struct Plan {
    host: String,
    port: u16,
    first_rank: usize,
    world_size: usize,
    local_size: usize,
    threads: Option<usize>,
}

impl Plan {
    fn of(args: &Args) -> Result<Self, LaunchError> {
        let usage = |text: String| Err(LaunchError::Usage(text));
        let (local_size, nodes) = (args.nproc_per_node, args.nnodes);
        if local_size == 0 || nodes == 0 {
            return usage("--nproc-per-node and --nnodes must be at least 1".to_owned());
        }
        if args.node_rank >= nodes {
            let given = args.node_rank;
            return usage(format!(
                "--node-rank must be below --nnodes {nodes}, got {given}"
            ));
        }
        let (host, port) = match &args.rdzv {
            Some(place) => match place.rsplit_once(':').map(|(h, p)| (h, p.parse::<u16>())) {
                Some((host, Ok(port))) if !host.is_empty() && port > 0 => (host.to_owned(), port),
                _ => return usage(format!("--rdzv must be HOST:PORT, got `{place}`")),
            },
            None if nodes > 1 => {
                return usage(
                    "--nnodes above 1 needs --rdzv HOST:PORT, the same on every machine".to_owned(),
                );
            }
            None => ("127.0.0.1".to_owned(), free_port()?),
        };
        // As torchrun, but with the cores shared out instead of one for each.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let own_choice = std::env::var_os("OMP_NUM_THREADS").is_some();
        Ok(Self {
            host,
            port,
            first_rank: args.node_rank * local_size,
            world_size: nodes * local_size,
            local_size,
            threads: (!own_choice).then(|| (cores / local_size).max(1)),
        })
    }

    fn variables(&self, local: usize) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("RANK", (self.first_rank + local).to_string()),
            ("LOCAL_RANK", local.to_string()),
            ("WORLD_SIZE", self.world_size.to_string()),
            ("LOCAL_WORLD_SIZE", self.local_size.to_string()),
            ("MASTER_ADDR", self.host.clone()),
            ("MASTER_PORT", self.port.to_string()),
            (LAUNCHED, std::process::id().to_string()),
        ];
        if let Some(threads) = self.threads {
            variables.push(("OMP_NUM_THREADS", threads.to_string()));
        }
        variables
    }
}

fn free_port() -> Result<u16, LaunchError> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(io("find a free port"))
}

/// A started rank.
#[derive(Debug)]
struct Rank {
    number: usize,
    child: Child,
}

impl Rank {
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // A rank that has just ended needs no signal.
            let _ = kill_process(pid, signal);
        }
    }
}

/// Each rank gets a process group of its own: else a terminal's Ctrl-C would
/// reach it twice, from the terminal and from here, and two mean "at once".
fn start(
    commands: impl Iterator<Item = Command>,
    first_rank: usize,
) -> Result<Vec<Rank>, LaunchError> {
    let mut ranks: Vec<Rank> = Vec::new();
    for (local, mut command) in commands.enumerate() {
        match command.stdin(Stdio::null()).process_group(0).spawn() {
            Ok(child) => ranks.push(Rank {
                number: first_rank + local,
                child,
            }),
            Err(error) => {
                for rank in &mut ranks {
                    let _ = rank.child.kill();
                    let _ = rank.child.wait();
                }
                return Err(io("start a rank")(error));
            }
        }
    }
    Ok(ranks)
}

fn code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Waits for all ranks, passing on the signals that `pending` yields; after the
/// first failure the rest get SIGTERM, and SIGKILL when `grace` is over.
fn guard(
    mut ranks: Vec<Rank>,
    world_size: usize,
    grace: Duration,
    mut pending: impl FnMut() -> Vec<i32>,
) -> u8 {
    let mut failure: Option<(u8, Instant)> = None;
    let mut passed_on: Vec<u8> = Vec::new();
    let mut stopped = 0;
    while !ranks.is_empty() {
        for signal in pending() {
            passed_on.extend(u8::try_from(128 + signal));
            let signal = Signal::from_named_raw(signal).unwrap_or(Signal::TERM);
            ranks.iter().for_each(|rank| rank.signal(signal));
        }
        let mut first_failed = None;
        ranks.retain_mut(|rank| {
            let Ok(Some(status)) = rank.child.try_wait() else {
                return true;
            };
            if passed_on.contains(&code(status)) {
                // It ended by the signal, as the others are about to.
                stopped = code(status);
            } else if !status.success() && failure.is_none() && first_failed.is_none() {
                first_failed = Some((rank.number, status));
            }
            false
        });
        if let Some((number, status)) = first_failed {
            eprintln!(
                "launch: rank {number} of {world_size} ended with {status}; stopping the rest"
            );
            ranks.iter().for_each(|rank| rank.signal(Signal::TERM));
            failure = Some((code(status), Instant::now()));
        }
        if failure.is_some_and(|(_, since)| since.elapsed() >= grace) {
            ranks.iter().for_each(|rank| rank.signal(Signal::KILL));
        }
        std::thread::sleep(POLL);
    }
    failure.map_or(stopped, |(code, _)| code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(scripts: &[&str]) -> Vec<Rank> {
        let commands = scripts.iter().map(|script| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            command
        });
        start(commands, 0).unwrap()
    }

    fn args(nproc: usize, nnodes: usize, node_rank: usize, rdzv: Option<&str>) -> Args {
        Args {
            nproc_per_node: nproc,
            nnodes,
            node_rank,
            rdzv: rdzv.map(str::to_owned),
            grace_s: 1,
            command: vec!["train".to_owned()],
        }
    }

    const NEVER: fn() -> Vec<i32> = Vec::new;
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn ranks_count_across_machines() {
        let plan = Plan::of(&args(4, 2, 1, Some("node0:29500"))).unwrap();
        let variables = plan.variables(3);
        for (name, value) in [
            ("RANK", "7"),
            ("LOCAL_RANK", "3"),
            ("WORLD_SIZE", "8"),
            ("LOCAL_WORLD_SIZE", "4"),
            ("MASTER_ADDR", "node0"),
            ("MASTER_PORT", "29500"),
        ] {
            assert!(variables.contains(&(name, value.to_owned())), "{name}");
        }
    }

    #[test]
    fn contradicting_flags_are_refused_by_name() {
        let refused = |args| Plan::of(&args).unwrap_err().to_string();
        assert!(refused(args(0, 1, 0, None)).contains("--nproc-per-node"));
        assert!(refused(args(1, 2, 2, Some("a:1"))).contains("--node-rank"));
        assert!(refused(args(1, 2, 0, None)).contains("--rdzv"));
        assert!(refused(args(1, 1, 0, Some("nohost"))).contains("nohost"));
    }

    #[test]
    fn the_first_failure_ends_the_rest_and_gives_the_status() {
        let begin = Instant::now();
        let ranks = shell(&["exec sleep 60", "sleep 0.2; exit 7", "exec sleep 60"]);
        assert_eq!(guard(ranks, 3, LONG, NEVER), 7);
        assert!(begin.elapsed() < Duration::from_secs(10));
        assert_eq!(guard(shell(&["true", "true"]), 2, LONG, NEVER), 0);
        assert_eq!(guard(shell(&["kill -9 $$"]), 1, LONG, NEVER), 137);
    }

    #[test]
    fn a_rank_that_ignores_sigterm_is_killed_after_the_grace() {
        let begin = Instant::now();
        let deaf = "trap '' TERM; while :; do sleep 0.1; done";
        let ranks = shell(&[deaf, "sleep 0.3; exit 3"]);
        assert_eq!(guard(ranks, 2, Duration::from_millis(600), NEVER), 3);
        let elapsed = begin.elapsed();
        assert!(elapsed > Duration::from_millis(800) && elapsed < Duration::from_secs(10));
    }

    #[test]
    fn a_signal_reaches_every_rank_once_and_they_may_end_well() {
        let careful = "n=0; trap 'n=$((n+1))' TERM; \
                       while [ $n -eq 0 ]; do sleep 0.05; done; sleep 0.3; exit $((n-1))";
        let ranks = shell(&[careful, careful]);
        std::thread::sleep(Duration::from_millis(300));
        let mut queue = vec![SIGTERM];
        assert_eq!(guard(ranks, 2, LONG, || std::mem::take(&mut queue)), 0);
    }

    #[test]
    fn ranks_that_a_signal_stops_end_together_with_its_status() {
        // The second one takes longer to write its state, and a second signal would end it at once.
        let stops = |pause: &str| {
            format!(
                "trap 'trap \"exit 9\" TERM; sleep {pause}; exit 143' TERM; while :; do sleep 0.05; done"
            )
        };
        let (fast, slow) = (stops("0.1"), stops("0.8"));
        let ranks = shell(&[fast.as_str(), slow.as_str()]);
        std::thread::sleep(Duration::from_millis(300));
        let mut queue = vec![SIGTERM];
        assert_eq!(guard(ranks, 2, LONG, || std::mem::take(&mut queue)), 143);
    }
}
