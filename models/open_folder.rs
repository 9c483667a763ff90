//! Opens a policy's folder, whatever it holds: weights, or a LoRA adapter beside the folder of its base.

use std::path::Path;

use tch::{Device, Kind};

use crate::folder_export::save_weights;
use crate::lora::{LoraConfig, PeftFolder, adapter_base, is_adapter};
use crate::params::Component;
use crate::weights_folder::{LoadOptions, fill, load_weights, read_config};
use crate::{Decoder, DecoderConfig, ModelError, Tokenizer, copy_aux_files, text_folder};

/// Adapters to begin with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdapterStart<'a> {
    /// Which they are.
    pub(crate) lora: &'a LoraConfig,
    /// What they are drawn from, and dropout.
    pub(crate) seed: u64,
}

/// Reads `config.json` and the weights of `folder` into a decoder of `kind` on `device`, all of
/// which can learn; a LoRA adapter with its base, of which the adapters can.
///
/// # Errors
/// As [`load_folder_frozen`].
pub fn load_folder(folder: &Path, kind: Kind, device: Device) -> Result<Decoder, ModelError> {
    load_folder_frozen(folder, &[], (kind, device))
}

/// [`load_folder`] with the parts `frozen`, whose weights lie apart from those that can learn.
///
/// # Errors
/// Missing, unknown or misshapen tensors, all by name, a base that is not there, and whatever
/// [`DecoderConfig::read`] refuses.
pub fn load_folder_frozen(
    folder: &Path,
    frozen: &[Component],
    place: (Kind, Device),
) -> Result<Decoder, ModelError> {
    let options = LoadOptions {
        frozen,
        ignore: &[],
    };
    match is_adapter(folder) {
        true => load_adapted(policy_config(folder)?, folder, None, (&[], place)),
        false => load_weights(read_config(folder)?, folder, options, place),
    }
}

/// The shape of the policy in `folder`, which for an adapter is its base's.
///
/// # Errors
/// Whatever [`DecoderConfig::read`] refuses; weights or a base that are not there.
pub(crate) fn policy_config(folder: &Path) -> Result<DecoderConfig, ModelError> {
    match is_adapter(folder) {
        true => read_config(&adapter_base(folder).map_err(ModelError::Folder)?),
        false => read_config(folder),
    }
}

/// The policy of `config` with the weights of `folder`; adapters are merged into the weights that they change.
///
/// # Errors
/// As [`load_folder_frozen`].
pub(crate) fn load_merged(
    config: DecoderConfig,
    folder: &Path,
    options: LoadOptions,
    place: (Kind, Device),
) -> Result<Decoder, ModelError> {
    if !is_adapter(folder) {
        return load_weights(config, folder, options, place);
    }
    let adapted = load_adapted(config.clone(), folder, None, (options.ignore, place))?;
    adapted.merge_adapters();
    let merged = Decoder::with_frozen(config, options.frozen, place.0, place.1);
    let pairs = merged.params.specs().iter().zip(adapted.params.specs());
    tch::no_grad(|| {
        for (to, from) in pairs {
            merged.params.view(to).copy_(&adapted.params.view(from));
        }
    });
    Ok(merged)
}

/// The policy of `config` with the adapter in `folder` beside its base's weights. `start` says which layers have
/// adapters and how they count; by default the folder does.
///
/// # Errors
/// As [`load_folder_frozen`]; keys of the adapter that ask for something that is not built.
pub(crate) fn load_adapted(
    config: DecoderConfig,
    folder: &Path,
    start: Option<AdapterStart>,
    (ignore, place): (&[String], (Kind, Device)),
) -> Result<Decoder, ModelError> {
    let mut peft = PeftFolder::read(folder, config.names.module_prefixes())?;
    peft.lora.vision = config.vision.is_some();
    let (lora, seed) = match start {
        Some(start) => (start.lora, start.seed),
        None => (&peft.lora, 0),
    };
    let base = peft.base.clone();
    let model =
        Decoder::with_adapters(config, lora, (&absolute(&base), seed), place).map_err(|error| {
            match start {
                Some(_) => error,
                // The names are the folder's own.
                None => ModelError::Tensors {
                    path: folder.to_owned(),
                    reason: error.to_string(),
                },
            }
        })?;
    fill(&model.params, &base, model.config.tied, ignore)?;
    peft.fill(&model.params)?;
    Ok(model)
}

/// The policy of `config` with the weights of the folder `base` and fresh adapters.
///
/// # Errors
/// As [`load_folder_frozen`]; a target that no layer is called.
pub(crate) fn load_with_fresh_adapters(
    config: DecoderConfig,
    base: &Path,
    start: AdapterStart,
    (ignore, place): (&[String], (Kind, Device)),
) -> Result<Decoder, ModelError> {
    let of = (absolute(base), start.seed);
    let model = Decoder::with_adapters(config, start.lora, (&of.0, of.1), place)?;
    fill(&model.params, base, model.config.tied, ignore)?;
    model.draw_adapters();
    Ok(model)
}

fn absolute(folder: &Path) -> std::path::PathBuf {
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
}

/// Writes the policy of an adapter's `folder` as a plain folder to `out`, which must not exist: the adapter merged into
/// the weights in float32 (float64 stays), rounded once to `kind`, by default the one that the base is stored in;
/// tokenizer, template and processor beside them. Gives that kind.
///
/// # Errors
/// A folder that is no adapter; as [`load_folder_frozen`]; whatever the file system says.
pub fn merge_folder(
    folder: &Path,
    out: &Path,
    (kind, device): (Option<Kind>, Device),
) -> Result<Kind, ModelError> {
    let text = folder.display();
    if !folder.is_dir() {
        return Err(ModelError::Folder(format!("{text}: is not there")));
    }
    if !is_adapter(folder) {
        return Err(ModelError::Folder(format!(
            "{text}: is no LoRA checkpoint: it has weights of its own, or no adapter_config.json"
        )));
    }
    if out.exists() {
        let out = out.display();
        return Err(ModelError::Folder(format!("{out}: is there already")));
    }
    let config = policy_config(folder)?;
    let kind = kind.unwrap_or(config.kind);
    let wide = match kind {
        Kind::Double => Kind::Double,
        _ => Kind::Float,
    };
    let model = load_adapted(config, folder, None, (&[], (wide, device)))?;
    model.merge_adapters();
    save_weights(&model, kind, out)?;
    let texts = text_folder(folder);
    if texts.join("tokenizer.json").exists() {
        Tokenizer::read(&texts)?.export(out)?;
    }
    copy_aux_files(folder, out)?;
    Ok(kind)
}
