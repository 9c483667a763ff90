//! How servers are met: who they are, and whether they can do what will be asked of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use models::Decoder;
use tch::Kind;

use super::answer::Ask;
use super::asking::ServerPoolOptions;
use super::config::{ServersConfig, WeightUpdate};
use super::current::Current;
use super::dialect::{Dialect, Greeting, Refusal, Writer, ended};
use super::endpoint::RolloutServer;
use super::pool::ServerPool;
use super::probe::{LogprobKind, greedy, probe_ask, probe_prompt};
use super::weight_group::WeightGroup;
use crate::RolloutError;
use crate::engine::EngineOptions;

/// Servers that have been met.
pub(super) struct MetServers {
    /// They, with what is under way.
    pub(super) pool: ServerPool,
    /// The most tokens of a prompt with its completion.
    pub(super) context: usize,
    /// Whether all take pictures.
    pub(super) pictures: bool,
    /// How their weights are updated.
    pub(super) way: WeightUpdate,
    /// How the model beneath adapters is, where it can be.
    pub(super) base_way: Option<WeightUpdate>,
    /// The groups in which weights are broadcast, once there are any: one a server.
    pub(super) groups: Vec<Option<WeightGroup>>,
    /// What a weight's way may take.
    pub(super) timeout: Duration,
    /// The prompt of probes.
    pub(super) prompt: Arc<[i64]>,
    /// The largest gap of a probe.
    pub(super) gap: f64,
    /// Names of adapters before the newest one, the oldest first.
    pub(super) adapters: VecDeque<String>,
    /// How many of these completions may still be asked of.
    pub(super) older_adapters: usize,
    /// What their log-probabilities are of, once their weights are the learner's.
    pub(super) kind: Option<LogprobKind>,
}

/// Tokens of a probe.
const PROBE_ROOM: usize = 16;

/// Meets the servers of `options`, which must answer within the deadline.
///
/// # Errors
/// One that does not answer, is of another kind, serves another model or vocabulary, or cannot be given weights.
pub(super) fn meet(
    options: &EngineOptions,
    dialect: Box<dyn Dialect>,
) -> Result<MetServers, RolloutError> {
    let (config, policy) = (&options.servers.config, &options.policy);
    let input =
        |key: &'static str| move |what: String| RolloutError::Input(format!("rollout.{key}{what}"));
    config.check().map_err(input("servers."))?;
    let token = config.token_file.as_ref().map(|path| {
        let read = std::fs::read_to_string(path);
        let text = read.map_err(|error| format!("token_file: {}: {error}", path.display()));
        text.map(|text| text.trim().to_owned())
            .map_err(input("servers."))
    });
    let token = token.transpose()?;
    let addresses = &options.servers.endpoints;
    if addresses.is_empty() {
        let what = format!(
            "endpoints: `engine: {}` needs the address of a server at least",
            dialect.name()
        );
        return Err(RolloutError::Input(format!("rollout.{what}")));
    }
    let servers = addresses
        .iter()
        .map(|address| RolloutServer::new(address, token.as_deref(), config));
    let gap = config.probe_gap.unwrap_or(match policy.kind() {
        Kind::Float | Kind::Double => 1e-3,
        _ => 0.3,
    });
    let tokenizer = options.tokenizer.as_ref();
    let prompt = probe_prompt(policy, |words| Some(tokenizer?.encode(words)));
    let options_of_pool = ServerPoolOptions {
        probe: probe_ask(
            format!("svgrl-probe-{}", std::process::id()),
            &prompt,
            greedy(PROBE_ROOM),
        ),
        servers: servers.collect(),
        dialect,
        in_flight: config.in_flight,
        deadline: config.deadline(),
        vocabulary: policy.config.vocab_size,
        gap,
        partial: options.servers.ahead.map(|ahead| ahead.partial),
    };
    let nobody = Current {
        writer: Writer::Base(String::new()),
        version: None,
        weights: None,
        probe: None,
        heals: true,
    };
    let pool = ServerPool::start(options_of_pool, nobody);
    let pool =
        pool.map_err(|error| RolloutError::Server(format!("no thread for a request: {error}")))?;
    let greetings = greet_all(&pool, config)?;
    pool.set_current(Current {
        writer: Writer::Base(greetings[0].model.clone()),
        ..pool.current()
    });
    let contexts = greetings.iter().filter_map(|greeting| greeting.context);
    let context = contexts.min().unwrap_or(usize::MAX);
    if context < prompt.len() + PROBE_ROOM {
        let what = format!(
            "{}: its context of {context} tokens is too short",
            addresses[0]
        );
        return Err(RolloutError::Input(format!("rollout.endpoints: {what}")));
    }
    for (server, greeting) in pool.servers().iter().zip(&greetings) {
        check_vocabulary(&pool, (server, greeting), &prompt, policy)?;
    }
    let way = way(config.update, &greetings, policy).map_err(input("servers.update: "))?;
    let base_way = ways_of(&greetings, policy)
        .find(|way| !matches!(way, WeightUpdate::Adapter | WeightUpdate::Group));
    Ok(MetServers {
        base_way,
        groups: Vec::new(),
        adapters: VecDeque::new(),
        older_adapters: options.servers.ahead.map_or(0, |ahead| ahead.steps + 1),
        timeout: config.timeout(),
        context,
        pictures: greetings.iter().all(|greeting| greeting.pictures),
        way,
        prompt,
        gap,
        kind: None,
        pool,
    })
}

fn greet_all(pool: &ServerPool, config: &ServersConfig) -> Result<Vec<Greeting>, RolloutError> {
    let mut greetings: Vec<Greeting> = Vec::new();
    for server in pool.servers() {
        let greeting = pool.patiently(|| pool.dialect().greet(server, config.model.as_deref()));
        let greeting = greeting.map_err(ended)?;
        let Greeting {
            program,
            model,
            context,
            ..
        } = &greeting;
        let context_told = context.map_or("?".to_owned(), |most| most.to_string());
        tracing::info!(target: "svgrl::rollout", "{}: {program}, model {model}, {context_told} tokens", server.address);
        if let Some(first) = greetings
            .first()
            .filter(|first| first.model != greeting.model)
        {
            let what = format!(
                "the servers call their models `{}` and `{model}`",
                first.model
            );
            return Err(ended(Refusal::of(
                server,
                format!("{what}; give them one name (--served-model-name)"),
            )));
        }
        wake(pool, server)?;
        greetings.push(greeting);
    }
    Ok(greetings)
}

/// Wakes a server that sleeps, which would leave every completion waiting.
fn wake(pool: &ServerPool, server: &RolloutServer) -> Result<(), RolloutError> {
    if !pool.dialect().is_asleep(server) {
        return Ok(());
    }
    tracing::info!(target: "svgrl::rollout", "{}: it was found asleep and is woken", server.address);
    pool.patiently(|| pool.dialect().sleep(server, false))
        .map_err(ended)
}

/// Whether a server knows the policy's ids and no more.
fn check_vocabulary(
    pool: &ServerPool,
    (server, greeting): (&RolloutServer, &Greeting),
    prompt: &Arc<[i64]>,
    policy: &Decoder,
) -> Result<(), RolloutError> {
    let rows = policy.config.vocab_size;
    // A prompt of it might end a server that does not look; ids that must not be drawn are compared with the vocabulary.
    let one = |last: i64| Ask {
        banned: [last].into(),
        ..probe_ask(format!("svgrl-vocabulary-{last}"), prompt, greedy(1))
    };
    if let Some(theirs) = greeting.vocabulary {
        return match theirs == rows {
            true => Ok(()),
            false => Err(other_vocabulary(server, rows, &format!("{theirs}"))),
        };
    }
    pool.ask_patiently(server, &one(rows - 1))
        .map_err(|refusal| match refusal.may_pass {
            true => ended(refusal),
            false => other_vocabulary(server, rows, &format!("fewer ({})", refusal.message)),
        })?;
    match pool.ask_patiently(server, &one(rows)) {
        Err(refusal) if !refusal.may_pass => Ok(()),
        Err(refusal) => Err(ended(refusal)),
        Ok(_) => Err(other_vocabulary(server, rows, "more")),
    }
}

fn other_vocabulary(server: &RolloutServer, rows: i64, theirs: &str) -> RolloutError {
    ended(Refusal::of(
        server,
        format!(
            "the policy has {rows} token ids and the model there has {theirs} (it must be started with the policy's own folder, or one of its shape)"
        ),
    ))
}

/// The ways of giving the policy's weights that all servers know and that are right, the best first.
fn ways_of<'a>(
    greetings: &'a [Greeting],
    policy: &'a Decoder,
) -> impl Iterator<Item = WeightUpdate> + 'a {
    let known = |way: &WeightUpdate| {
        greetings
            .iter()
            .all(|greeting| greeting.updates.contains(way))
    };
    let right = |way: &WeightUpdate| match way {
        WeightUpdate::Reload => !policy.config.tied,
        WeightUpdate::Adapter => policy.adapters().is_some(),
        _ => true,
    };
    let all = greetings[0].updates.iter();
    all.filter(move |way| known(way) && right(way)).copied()
}

/// How weights get to the servers.
fn way(
    asked: WeightUpdate,
    greetings: &[Greeting],
    policy: &Decoder,
) -> Result<WeightUpdate, String> {
    let adapted = policy.adapters().is_some();
    if asked == WeightUpdate::Auto && adapted {
        return Ok(WeightUpdate::Adapter);
    }
    if asked == WeightUpdate::Auto {
        let mut ways = ways_of(greetings, policy);
        return ways.next().ok_or_else(|| {
            "no server here can be given weights (start vLLM with VLLM_SERVER_DEV_MODE=1, --worker-extension-cls svgrl_vllm.Worker and --weight-transfer-config '{\"backend\":\"safetensors\"}', with launch/clients in PYTHONPATH; see docs/engines.md)".to_owned()
        });
    }
    if asked == WeightUpdate::Adapter && !adapted {
        return Err("`adapter` is for stages with `lora`".into());
    }
    if asked == WeightUpdate::Reload && policy.config.tied {
        return Err("`reload` leaves the head of this policy stale, which is tied to its embedding: take `transfer`".into());
    }
    let known = greetings
        .iter()
        .all(|greeting| greeting.updates.contains(&asked));
    match known {
        true => Ok(asked),
        false => Err(format!(
            "the servers do not know this way, but {:?} (see docs/engines.md for what they are started with)",
            greetings[0].updates
        )),
    }
}
