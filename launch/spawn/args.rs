//! The flags of `svgrl launch`.

/// Start several ranks of a command on this machine, and samplers beside them.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  svgrl launch --nproc-per-node 2 -- train configs/quickstart.yaml
  svgrl launch --nproc-per-node 8 --nnodes 2 --node-rank 0 --rdzv node0:29500 -- train run.yaml
  svgrl launch --learners 2 --samplers 2 -- train run.yaml      # run.yaml: rollout.placement: dedicated
  svgrl launch --learners 8 --samplers 0 --rdzv node0:29500 -- train run.yaml      # on node0
  svgrl launch --learners 0 --samplers 8 --rdzv node0:29500 -- train run.yaml      # on node1")]
pub struct Args {
    /// Ranks to start on this machine, which learn; at least 1, or 0 on a machine of samplers alone.
    #[arg(long, visible_alias = "learners", value_name = "N")]
    pub nproc_per_node: usize,
    /// Processes besides to start on this machine, which sample for the ranks (rollout.placement: dedicated), on the GPUs
    /// behind theirs; 0 where all samplers are on other machines.
    #[arg(long, value_name = "M")]
    pub samplers: Option<usize>,
    /// Machines with ranks that take part; run this command on each.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub nnodes: usize,
    /// This machine's place among them, from 0; with --learners 0 its place among the machines of samplers alone.
    #[arg(long, value_name = "R", default_value_t = 0)]
    pub node_rank: usize,
    /// Where rank 0 meets the others; by default a free port of this machine.
    #[arg(long, value_name = "HOST:PORT")]
    pub rdzv: Option<String>,
    /// How often another process takes the place of a sampler that ended.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub sampler_restarts: usize,
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
            samplers: None,
            nnodes: 1,
            node_rank: 0,
            rdzv: None,
            sampler_restarts: 0,
            grace_s: 30,
            command,
        }
    }
}
