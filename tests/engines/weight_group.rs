//! The other end of SGLang's weight group: a rank of a Gloo group, as PyTorch would make it, that takes what is broadcast.

use std::time::Duration;

use models::Decoder;
use serde_json::Value;
use tch::{Device, Kind, Tensor};
use torch_ext::{Backend, GroupOptions, ProcessGroup, Store, TorchError};

/// Joins the group of an invitation.
pub fn join(invitation: &Value) -> Result<ProcessGroup, TorchError> {
    let number = |key: &str| invitation[key].as_u64().unwrap() as usize;
    let word = |key: &str| invitation[key].as_str().unwrap();
    assert_eq!(word("backend"), "gloo");
    let (host, name) = (word("master_address"), word("group_name"));
    let timeout = Duration::from_secs(60);
    let store = Store::tcp(host, number("master_port") as u16, false, timeout)?;
    let meeting = store.prefix(name)?.prefix(&format!("{name}/"))?;
    let options = GroupOptions {
        rank: number("rank_offset"),
        size: number("world_size"),
        timeout,
        backend: Backend::Gloo,
        heartbeat: Duration::from_secs(5),
        address: host.parse().ok(),
    };
    ProcessGroup::join_foreign(&meeting.prefix("cpu/")?, options)
}

/// Takes the tensors that are announced into `model`.
pub fn receive(group: &ProcessGroup, announced: &Value, model: &Decoder) -> Result<(), String> {
    let names: Vec<String> = serde_json::from_value(announced["names"].clone()).unwrap();
    let shapes: Vec<Vec<i64>> = serde_json::from_value(announced["shapes"].clone()).unwrap();
    assert!(
        announced["dtypes"]
            .as_array()
            .unwrap()
            .iter()
            .all(|it| it == "float32")
    );
    for (name, shape) in names.iter().zip(&shapes) {
        let values = Tensor::zeros(shape.as_slice(), (Kind::Float, Device::Cpu));
        group
            .broadcast(&values, 0)
            .map_err(|error| error.to_string())?;
        let specs = model.params.specs();
        let spec = specs.iter().find(|spec| spec.name == *name);
        let spec = spec.ok_or_else(|| format!("no parameter is called {name}"))?;
        tch::no_grad(|| model.params.view(spec).copy_(&values));
    }
    Ok(())
}
