//! Standing guard over the processes of this machine: ranks end together, samplers are replaced while ranks live, and end
//! after them.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::error::{LaunchError, io};

const POLL: Duration = Duration::from_millis(50);

/// A started rank or sampler.
#[derive(Debug)]
pub(super) struct Rank {
    number: usize,
    child: Child,
    /// Since when it has been seen stopped.
    stopped: Option<Instant>,
}

impl Rank {
    /// Whether it has been stopped (SIGSTOP) for longer than `most`.
    fn is_stopped_for(&mut self, most: Duration) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        // The state stands behind the name in brackets, which may hold any character.
        let stat = stat.unwrap_or_default();
        let state = stat
            .rsplit_once(") ")
            .map(|(_, rest)| rest.starts_with('T'));
        match state {
            Some(true) => self.stopped.get_or_insert_with(Instant::now).elapsed() > most,
            _ => {
                self.stopped = None;
                false
            }
        }
    }

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
pub(super) fn start(
    commands: impl Iterator<Item = Command>,
    first_rank: usize,
) -> Result<Vec<Rank>, LaunchError> {
    let mut ranks: Vec<Rank> = Vec::new();
    for (local, mut command) in commands.enumerate() {
        match command.stdin(Stdio::null()).process_group(0).spawn() {
            Ok(child) => ranks.push(Rank {
                number: first_rank + local,
                child,
                stopped: None,
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

/// The samplers of this machine, and how another one is started in the place of one that ended.
pub(super) struct Samplers<'a> {
    /// Those that run.
    pub(super) running: Vec<Rank>,
    /// How many there are on all machines, as far as this one knows.
    pub(super) all: usize,
    /// Starts the one with this number.
    pub(super) start: Box<dyn Fn(usize) -> Result<Rank, LaunchError> + 'a>,
    /// How long one may be stopped before it is killed.
    pub(super) patience: Duration,
    /// How often each may be started again.
    pub(super) restarts: usize,
    /// The numbers of those that ended.
    pub(super) ended: Vec<usize>,
}

impl Samplers<'_> {
    /// None.
    #[cfg(test)]
    fn none() -> Self {
        Self {
            running: Vec::new(),
            all: 0,
            start: Box::new(|_| Err(LaunchError::Usage(String::new()))),
            patience: Duration::MAX,
            restarts: 0,
            ended: Vec::new(),
        }
    }

    /// Looks who has ended and starts others in their places; the status of one whose input is wrong, which ends the run.
    fn tend(&mut self) -> Option<(usize, ExitStatus)> {
        let mut ended = Vec::new();
        self.running.retain_mut(|sampler| {
            let Ok(Some(status)) = sampler.child.try_wait() else {
                if sampler.is_stopped_for(self.patience) {
                    eprintln!(
                        "launch: sampler {} is stopped; it is killed",
                        sampler.number
                    );
                    sampler.signal(Signal::KILL);
                    sampler.stopped = None;
                }
                return true;
            };
            ended.push((sampler.number, status));
            false
        });
        for (number, status) in ended {
            match status.code() {
                // It knows that the run has ended.
                Some(0) => continue,
                Some(2) => return Some((number, status)),
                _ => {}
            }
            let all = self.all;
            let before = self.ended.iter().filter(|other| **other == number).count();
            self.ended.push(number);
            if before >= self.restarts {
                eprintln!(
                    "launch: sampler {number} of {all} ended with {status}; it was started again {before} times (--sampler-restarts) and stays away"
                );
                continue;
            }
            eprintln!("launch: sampler {number} of {all} ended with {status}; starting another");
            match (self.start)(number) {
                Ok(sampler) => self.running.push(sampler),
                Err(error) => eprintln!("launch: sampler {number}: {error}"),
            }
        }
        None
    }

    /// Ends those that have not ended by themselves: SIGTERM, and SIGKILL when `grace` is over.
    fn end(&mut self, grace: Duration) {
        self.running
            .iter()
            .for_each(|sampler| sampler.signal(Signal::TERM));
        let since = Instant::now();
        while !self.running.is_empty() {
            self.running
                .retain_mut(|sampler| !matches!(sampler.child.try_wait(), Ok(Some(_))));
            if since.elapsed() >= grace {
                self.running
                    .iter()
                    .for_each(|sampler| sampler.signal(Signal::KILL));
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Waits for all ranks, passing on the signals that `pending` yields; after the
/// first failure the rest get SIGTERM, and SIGKILL when `grace` is over. Samplers
/// end after the ranks; where there are no ranks, when the run elsewhere does.
pub(super) fn guard(
    mut ranks: Vec<Rank>,
    samplers: &mut Samplers,
    (world_size, grace): (usize, Duration),
    mut pending: impl FnMut() -> Vec<i32>,
) -> u8 {
    let alone = ranks.is_empty();
    let mut failure: Option<(u8, Instant)> = None;
    let mut passed_on: Vec<u8> = Vec::new();
    let mut stopped = 0;
    while !ranks.is_empty() || (alone && !samplers.running.is_empty()) {
        for signal in pending() {
            passed_on.extend(u8::try_from(128 + signal));
            if alone {
                samplers.end(grace);
                stopped = u8::try_from(128 + signal).unwrap_or(1);
            }
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
        let refused = match (ranks.is_empty() && !alone) || failure.is_some() {
            true => None,
            false => samplers.tend(),
        };
        let all = samplers.all;
        let failed = first_failed
            .map(|(number, status)| (format!("rank {number} of {world_size}"), status))
            .or(refused.map(|(number, status)| (format!("sampler {number} of {all}"), status)));
        if let (Some((name, status)), None) = (failed, failure) {
            eprintln!("launch: {name} ended with {status}; stopping the rest");
            if alone {
                samplers.end(grace);
            }
            ranks.iter().for_each(|rank| rank.signal(Signal::TERM));
            failure = Some((code(status), Instant::now()));
        }
        if failure.is_some_and(|(_, since)| since.elapsed() >= grace) {
            ranks.iter().for_each(|rank| rank.signal(Signal::KILL));
        }
        std::thread::sleep(POLL);
    }
    samplers.end(grace);
    failure.map_or(stopped, |(code, _)| code)
}

#[cfg(test)]
mod tests {
    use signal_hook::consts::SIGTERM;

    use super::*;

    fn shell(scripts: &[&str]) -> Vec<Rank> {
        let commands = scripts.iter().map(|script| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            command
        });
        start(commands, 0).unwrap()
    }

    const NEVER: fn() -> Vec<i32> = Vec::new;
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_first_failure_ends_the_rest_and_gives_the_status() {
        let begin = Instant::now();
        let ranks = shell(&["exec sleep 60", "sleep 0.2; exit 7", "exec sleep 60"]);
        assert_eq!(guard(ranks, &mut Samplers::none(), (3, LONG), NEVER), 7);
        assert!(begin.elapsed() < Duration::from_secs(45));
        assert_eq!(
            guard(
                shell(&["true", "true"]),
                &mut Samplers::none(),
                (2, LONG),
                NEVER
            ),
            0
        );
        assert_eq!(
            guard(
                shell(&["kill -9 $$"]),
                &mut Samplers::none(),
                (1, LONG),
                NEVER
            ),
            137
        );
    }

    #[test]
    fn a_rank_that_ignores_sigterm_is_killed_after_the_grace() {
        let begin = Instant::now();
        let deaf = "trap '' TERM; while :; do sleep 0.1; done";
        let ranks = shell(&[deaf, "sleep 0.3; exit 3"]);
        assert_eq!(
            guard(
                ranks,
                &mut Samplers::none(),
                (2, Duration::from_millis(600)),
                NEVER
            ),
            3
        );
        let elapsed = begin.elapsed();
        assert!(elapsed > Duration::from_millis(800) && elapsed < Duration::from_secs(45));
    }

    #[test]
    fn a_signal_reaches_every_rank_once_and_they_may_end_well() {
        let careful = "n=0; trap 'n=$((n+1))' TERM; \
                       while [ $n -eq 0 ]; do sleep 0.05; done; sleep 0.3; exit $((n-1))";
        let ranks = shell(&[careful, careful]);
        std::thread::sleep(Duration::from_millis(300));
        let mut queue = vec![SIGTERM];
        assert_eq!(
            guard(ranks, &mut Samplers::none(), (2, LONG), || std::mem::take(
                &mut queue
            )),
            0
        );
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
        assert_eq!(
            guard(ranks, &mut Samplers::none(), (2, LONG), || std::mem::take(
                &mut queue
            )),
            143
        );
    }

    fn samplers(script: &'static str, restarts: usize) -> Samplers<'static> {
        let one = move |number| {
            let mut rank = shell(&[script]).remove(0);
            rank.number = number;
            Ok(rank)
        };
        Samplers {
            running: vec![one(0).unwrap()],
            all: 1,
            start: Box::new(one),
            patience: Duration::from_millis(200),
            restarts,
            ended: Vec::new(),
        }
    }

    #[test]
    fn a_sampler_that_dies_is_replaced_and_ends_after_the_ranks() {
        let mut dying = samplers("kill -9 $$", 2);
        assert_eq!(guard(shell(&["sleep 3"]), &mut dying, (1, LONG), NEVER), 0);
        assert_eq!(dying.ended, [0, 0, 0]);
        let mut living = samplers("exec sleep 60", 2);
        assert_eq!(guard(shell(&["exit 5"]), &mut living, (1, LONG), NEVER), 5);
        assert!(living.running.is_empty() && living.ended.is_empty());
    }

    #[test]
    fn a_sampler_that_stays_stopped_is_killed_and_replaced() {
        let mut stopped = samplers("kill -STOP $$; exit 0", 1);
        assert_eq!(
            guard(shell(&["sleep 3"]), &mut stopped, (1, LONG), NEVER),
            0
        );
        assert_eq!(stopped.ended, [0, 0]);
    }

    #[test]
    fn a_sampler_whose_input_is_wrong_ends_the_run() {
        let mut wrong = samplers("exit 2", 2);
        let ranks = shell(&["exec sleep 60"]);
        assert_eq!(guard(ranks, &mut wrong, (1, LONG), NEVER), 2);
    }

    #[test]
    fn samplers_without_ranks_end_with_the_run_elsewhere() {
        let mut told = samplers("sleep 0.2; exit 0", 2);
        assert_eq!(guard(Vec::new(), &mut told, (8, LONG), NEVER), 0);
        let mut stopped = samplers("exec sleep 60", 2);
        let mut queue = vec![SIGTERM];
        let pending = || std::mem::take(&mut queue);
        assert_eq!(guard(Vec::new(), &mut stopped, (8, LONG), pending), 143);
    }
}
