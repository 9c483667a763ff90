//! Weights sent to an SGLang without files: its workers and this process are a process group of PyTorch's, and every tensor
//! is broadcast in it. Gloo where the policy is on the CPU, NCCL on a GPU.

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use torch_ext::{Backend, GroupOptions, ProcessGroup, Store};

use super::dialect::{Refusal, ended};
use super::endpoint::RolloutServer;
use super::sglang::succeeded;
use crate::RolloutError;
use crate::engine::WeightBlocks;

/// A server's workers and this process, which is rank 0.
pub(super) struct WeightGroup {
    group: ProcessGroup,
    name: String,
    /// Where their tensors lie.
    device: Device,
    /// Through which they met.
    _store: Store,
}

fn broken(server: &RolloutServer) -> impl Fn(torch_ext::TorchError) -> RolloutError {
    let address = server.address.clone();
    move |error| RolloutError::Server(format!("{address}: weight group: {error}"))
}

impl WeightGroup {
    /// Has the workers of `server` join a group called `name`.
    ///
    /// # Errors
    /// Workers that do not come within `timeout`.
    pub(super) fn join(
        server: &RolloutServer,
        name: String,
        (device, timeout): (Device, Duration),
    ) -> Result<Self, RolloutError> {
        let about = server
            .ask("/server_info", None)
            .map_err(|error| ended(error.into()))?;
        let workers = about["tp_size"].as_u64().unwrap_or(1) as usize;
        let broken = broken(server);
        let host = own_address(&server.address);
        let store = Store::tcp(&host, 0, true, timeout).map_err(&broken)?;
        let port = store.port().map_err(&broken)?;
        let (backend, called, place) = match device {
            Device::Cuda(device) => (Backend::Nccl { device }, "nccl", "cuda/"),
            _ => (Backend::Gloo, "gloo", "cpu/"),
        };
        let invitation = json!({
            "master_address": host, "master_port": port, "rank_offset": 1, "world_size": workers + 1,
            "group_name": name, "backend": called,
        });
        // The prefixes that PyTorch puts before a group's keys.
        let meeting = store
            .prefix(&name)
            .and_then(|store| store.prefix(&format!("{name}/")));
        let meeting = meeting
            .and_then(|store| store.prefix(place))
            .map_err(&broken)?;
        let options = GroupOptions {
            rank: 0,
            size: workers + 1,
            timeout,
            backend,
            heartbeat: Duration::from_secs(5),
            address: host.parse().ok(),
        };
        let (group, invited) = std::thread::scope(|scope| {
            let invited =
                scope.spawn(|| server.have_done("/init_weights_update_group", &invitation));
            let group = ProcessGroup::join_foreign(&meeting, options);
            (group, invited.join())
        });
        told(server, invited)?;
        Ok(Self {
            group: group.map_err(&broken)?,
            name,
            device,
            _store: store,
        })
    }

    /// Broadcasts `weights` as `version`, a block after another; their bytes.
    ///
    /// # Errors
    /// A server that refuses them, workers that are lost.
    pub(super) fn send(
        &self,
        server: &RolloutServer,
        weights: &dyn WeightBlocks,
        version: &str,
    ) -> Result<u64, RolloutError> {
        let broken = broken(server);
        let begun = server.have_done("/begin_weight_update", &json!({}));
        told(server, Ok(begun))?;
        let mut bytes = 0;
        for index in 0..weights.blocks() {
            let mut block: Vec<(String, Tensor)> = Vec::new();
            weights.block(index, &mut |name, values| {
                let own = values.detach().to_device(self.device).contiguous();
                bytes += (own.numel() * own.kind().elt_size_in_bytes()) as u64;
                block.push((name.to_owned(), own));
                Ok(())
            })?;
            let names: Vec<&String> = block.iter().map(|(name, _)| name).collect();
            let kinds: Vec<&str> = block
                .iter()
                .map(|(_, values)| kind_name(values.kind()))
                .collect();
            let shapes: Vec<Vec<i64>> = block.iter().map(|(_, values)| values.size()).collect();
            let announced = json!({
                "names": names, "dtypes": kinds, "shapes": shapes, "group_name": self.name, "flush_cache": true,
                "weight_version": version,
            });
            let (sent, taken) = std::thread::scope(|scope| {
                let taken = scope
                    .spawn(|| server.have_done("/update_weights_from_distributed", &announced));
                let sent = block
                    .iter()
                    .try_for_each(|(_, values)| self.group.broadcast(values, 0));
                (sent, taken.join())
            });
            told(server, taken)?;
            sent.map_err(&broken)?;
        }
        let done = server.have_done("/end_weight_update", &json!({}));
        told(server, Ok(done))?;
        Ok(bytes)
    }
}

/// Whether a server did what it was told.
fn told(
    server: &RolloutServer,
    answer: std::thread::Result<Result<Value, rewards::CallError>>,
) -> Result<(), RolloutError> {
    let lost = |_| {
        RolloutError::Server(format!(
            "{}: the thread that calls it has ended",
            server.address
        ))
    };
    let answer = answer.map_err(lost)?.map_err(Refusal::from);
    answer
        .and_then(|answer| succeeded(server, &answer))
        .map_err(ended)
}

/// What PyTorch calls a kind.
fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Double => "float64",
        Kind::Half => "float16",
        Kind::BFloat16 => "bfloat16",
        _ => "float32",
    }
}

/// This machine's address on the way to `server`; loopback where there is no other.
fn own_address(server: &str) -> String {
    let host = server.split("://").nth(1).unwrap_or(server);
    let host = host.split('/').next().unwrap_or(host);
    let host = match host.contains(':') {
        true => host.to_owned(),
        false => format!("{host}:80"),
    };
    let towards = || -> std::io::Result<String> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        // Nothing is sent: it asks the routing table.
        socket.connect(host)?;
        Ok(socket.local_addr()?.ip().to_string())
    };
    towards().unwrap_or_else(|_| "127.0.0.1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_this_machine_leads_over_loopback() {
        for server in [
            "http://127.0.0.1:8000",
            "http://127.0.0.1/path",
            "http://127.0.0.1",
        ] {
            assert_eq!(own_address(server), "127.0.0.1");
        }
    }
}
