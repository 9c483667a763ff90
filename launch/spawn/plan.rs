//! Who and where the processes of this machine are.

use std::net::TcpListener;

use super::args::Args;
use super::error::{LaunchError, io};

/// Set in the environment of every process that this command starts, to this process' number.
pub(super) const LAUNCHED: &str = "SVGRL_LAUNCHED";
/// Set in the environment of samplers, to their number among all.
const SAMPLER: &str = "SVGRL_SAMPLER";
/// Set in the environment of ranks beside which there are samplers, to how many; 0 where they are on other machines.
const SAMPLERS: &str = "SVGRL_SAMPLERS";

/// Who and where this machine's ranks and samplers are.
#[derive(Debug, PartialEq)]
pub(super) struct Plan {
    host: String,
    port: u16,
    pub(super) first_rank: usize,
    pub(super) world_size: usize,
    local_size: usize,
    samplers: Option<SamplerNumbers>,
    threads: Option<usize>,
}

/// The samplers of a run as this machine knows them.
#[derive(Debug, Clone, Copy, PartialEq)]
struct SamplerNumbers {
    /// The number of this machine's first one.
    first: usize,
    /// On this machine.
    local: usize,
    /// On all machines that run this command alike.
    all: usize,
}

impl Plan {
    pub(super) fn of(args: &Args) -> Result<Self, LaunchError> {
        let usage = |text: String| Err(LaunchError::Usage(text));
        let (local_size, nodes) = (args.nproc_per_node, args.nnodes);
        let samplers = args.samplers.unwrap_or(0);
        if nodes == 0 || (local_size == 0 && samplers == 0) {
            return usage(
                "--nproc-per-node (--learners) and --nnodes must be at least 1".to_owned(),
            );
        }
        if local_size == 0 && args.rdzv.is_none() {
            return usage(
                "--learners 0 needs --rdzv HOST:PORT, where the ranks on another machine meet"
                    .to_owned(),
            );
        }
        if local_size > 0 && args.samplers == Some(0) && args.rdzv.is_none() {
            return usage(
                "--samplers 0 needs --rdzv HOST:PORT, where samplers on other machines find the ranks".to_owned(),
            );
        }
        if local_size > 0 && args.node_rank >= nodes {
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
            samplers: args.samplers.map(|local| SamplerNumbers {
                first: args.node_rank * local,
                local,
                all: nodes * local,
            }),
            threads: (!own_choice).then(|| (cores / (local_size + samplers)).max(1)),
        })
    }

    /// Samplers of this machine.
    pub(super) fn samplers(&self) -> usize {
        self.samplers.map_or(0, |samplers| samplers.local)
    }

    /// Samplers of all machines that run this command alike.
    pub(super) fn all_samplers(&self) -> usize {
        self.samplers.map_or(0, |samplers| samplers.all)
    }

    /// The number of this machine's sampler `local` among all.
    pub(super) fn sampler(&self, local: usize) -> usize {
        self.samplers.map_or(0, |samplers| samplers.first) + local
    }

    /// What the environment of this machine's rank `local` says.
    pub(super) fn rank_variables(&self, local: usize) -> Vec<(&'static str, String)> {
        let mut variables = self.variables();
        variables.extend([
            ("RANK", (self.first_rank + local).to_string()),
            ("LOCAL_RANK", local.to_string()),
            ("WORLD_SIZE", self.world_size.to_string()),
            ("LOCAL_WORLD_SIZE", self.local_size.to_string()),
        ]);
        variables.extend(
            self.samplers
                .map(|samplers| (SAMPLERS, samplers.all.to_string())),
        );
        variables
    }

    /// What the environment of this machine's sampler `local` says; it computes behind the ranks.
    pub(super) fn sampler_variables(&self, local: usize) -> Vec<(&'static str, String)> {
        let mut variables = self.variables();
        variables.extend([
            (SAMPLER, self.sampler(local).to_string()),
            ("LOCAL_RANK", (self.local_size + local).to_string()),
            // It is no rank, whatever started this command.
            ("WORLD_SIZE", "1".to_owned()),
        ]);
        variables
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
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

#[cfg(test)]
mod tests {
    use super::*;

    fn args(nproc: usize, nnodes: usize, node_rank: usize, rdzv: Option<&str>) -> Args {
        Args {
            nproc_per_node: nproc,
            samplers: None,
            sampler_restarts: 0,
            nnodes,
            node_rank,
            rdzv: rdzv.map(str::to_owned),
            grace_s: 1,
            command: vec!["train".to_owned()],
        }
    }

    #[test]
    fn ranks_count_across_machines() {
        let plan = Plan::of(&args(4, 2, 1, Some("node0:29500"))).unwrap();
        let variables = plan.rank_variables(3);
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
    fn samplers_count_across_machines_and_compute_behind_the_ranks() {
        let beside = |nproc, samplers, nnodes, node_rank| Args {
            samplers: Some(samplers),
            ..args(nproc, nnodes, node_rank, Some("node0:29500"))
        };
        let has = |variables: &[(&str, String)], name: &str, value: &str| {
            variables
                .iter()
                .any(|(known, is)| *known == name && is == value)
        };
        let plan = Plan::of(&beside(4, 2, 2, 1)).unwrap();
        let (rank, sampler) = (plan.rank_variables(0), plan.sampler_variables(1));
        assert!(has(&rank, "WORLD_SIZE", "8") && has(&rank, SAMPLERS, "4"));
        assert!(has(&sampler, SAMPLER, "3") && has(&sampler, "LOCAL_RANK", "5"));
        assert!(has(&sampler, "MASTER_PORT", "29500") && has(&sampler, "WORLD_SIZE", "1"));
        // A machine of samplers alone, and one whose samplers are elsewhere.
        let alone = Plan::of(&beside(0, 8, 1, 1)).unwrap();
        assert!(has(&alone.sampler_variables(0), SAMPLER, "8"));
        let elsewhere = Plan::of(&beside(8, 0, 1, 0)).unwrap();
        assert!(has(&elsewhere.rank_variables(0), SAMPLERS, "0"));
        assert_eq!(elsewhere.samplers(), 0);
        let none = Plan::of(&args(1, 1, 0, None)).unwrap();
        assert!(
            none.rank_variables(0)
                .iter()
                .all(|(name, _)| *name != SAMPLERS)
        );
        let refused = |args: Args| Plan::of(&Args { rdzv: None, ..args }).unwrap_err();
        for (args, part) in [
            (beside(0, 2, 1, 0), "--learners 0 needs --rdzv"),
            (beside(2, 0, 1, 0), "--samplers 0 needs --rdzv"),
            (beside(0, 0, 1, 0), "--learners"),
        ] {
            assert!(refused(args).to_string().contains(part), "{part}");
        }
    }
}
