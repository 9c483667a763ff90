//! Encoders: networks that are only evaluated, of pictures, texts or both, each read from the form in
//! which it is published. What a file or folder holds is found out here.
//!
//! A row of a result depends on its own item and on the shape of the batch alone, never on the
//! neighbours' contents.

mod block;
mod bpe;
mod clip;
mod dinov2;
mod distance;
mod dists;
mod dreamsim;
mod inception;
mod lpips;
mod openai_clip;
mod random;
mod section;
mod siglip;
mod text;
mod text_cleaning;
mod to_device;
mod towers;
mod types;
mod xlm_roberta;

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use crate::ModelError;
use crate::image::{ImageProcessor, Rgb8};
use crate::layers::reduce_kind;
use crate::weights::{self, Weights};
use clip::Clip;
use dinov2::Dinov2;
pub use distance::{DistanceInput, DistanceNetwork, PictureFeatures};
pub use dists::Dists;
use dreamsim::DreamSim;
use inception::Inception;
pub use lpips::Lpips;
pub use random::{RandomShape, write_random_encoder};
use section::Section;
use siglip::Siglip;
use text::{TextRules, TextTokens};
use to_device::{EachTensor, TensorChange, to_device};
use towers::Towers;
pub use types::{Pooling, guarded};
use xlm_roberta::XlmRoberta;

/// A network, its processor and its tokenizer.
#[derive(Debug)]
pub struct Encoder {
    network: Network,
    tokens: Option<TextTokens>,
    path: PathBuf,
    place: (Kind, Device),
}

#[derive(Debug)]
enum Network {
    Dinov2(Dinov2),
    Clip(Clip),
    Siglip(Siglip),
    XlmRoberta(XlmRoberta),
    DreamSim(DreamSim),
    Inception(Inception),
}

impl Encoder {
    /// Reads a Hugging Face folder (`config.json`, safetensors or pytorch_model.bin), the cache folder of
    /// the `dreamsim` package, or a checkpoint of CLIP or Long-CLIP (its tokenizer may lie beside
    /// it) or of pytorch-fid's Inception.
    ///
    /// # Errors
    /// Missing, unknown or misshapen tensors by name; a configuration that is not built, by key.
    pub fn load(path: &Path, place: (Kind, Device)) -> Result<Self, ModelError> {
        let (network, folder) = if path.is_dir() {
            (Network::of_folder(path, place)?, path)
        } else {
            let folder = path.parent().unwrap_or(Path::new("."));
            (Network::of_file(path, place)?, folder)
        };
        let tokens = match network.rules() {
            Some(rules) => TextTokens::read(folder, rules)?,
            None => None,
        };
        Ok(Self {
            network,
            tokens,
            path: path.to_owned(),
            place,
        })
    }

    /// The kind in which encoders compute where `kind` is asked for. Half precision is float16: norms and sums
    /// are in float32 in any case, and what is left of bfloat16's eight bits moves cosines of published shapes
    /// by up to 3e-3, where float16 stays within 5e-4.
    pub fn half_is_float16(kind: Kind) -> Kind {
        match kind {
            Kind::BFloat16 => Kind::Half,
            other => other,
        }
    }

    /// Moves all weights, converting them where the kind is another.
    ///
    /// # Errors
    /// libtorch's, for lack of memory for instance.
    pub fn move_to(&mut self, place: (Kind, Device)) -> Result<(), ModelError> {
        to_device(&mut self.network, self.place.0, place)?;
        self.place = place;
        Ok(())
    }

    /// What it computes in, and where.
    pub fn place(&self) -> (Kind, Device) {
        self.place
    }

    /// Brings pictures to size as torchvision's `Resize(side)` by the bilinear filter and
    /// `CenterCrop(side)` do, `side` being what comes out anyhow: DINOv2 as SGP-RL feeds it.
    ///
    /// # Errors
    /// [`ModelError::Image`] for other networks.
    pub fn use_torchvision(&mut self) -> Result<(), ModelError> {
        let Network::Dinov2(network) = &mut self.network else {
            return Err(ModelError::Image(format!(
                "{}: preprocess: torchvision's transform is DINOv2's alone",
                self.path.display()
            )));
        };
        network.processor = network.processor.as_torchvision()?;
        Ok(())
    }

    /// Whether it is DreamSim's ensemble.
    pub fn is_dreamsim(&self) -> bool {
        matches!(self.network, Network::DreamSim(_))
    }

    /// Whether it encodes pictures.
    pub fn sees(&self) -> bool {
        self.network.processor().is_some()
    }

    /// Whether it encodes texts.
    pub fn reads(&self) -> bool {
        self.network.rules().is_some()
    }

    /// What stands for a sequence when nobody says: the class token where there is one, and none for
    /// networks whose pooling is part of them.
    pub fn default_pool(&self) -> Option<Pooling> {
        match self.network {
            Network::Dinov2(_) | Network::XlmRoberta(_) => Some(Pooling::Cls),
            _ => None,
        }
    }

    /// Brings a picture to the network's size; may run on any thread.
    ///
    /// # Errors
    /// [`ModelError::Image`] as [`ImageProcessor::fit`], and for networks of texts alone.
    pub fn fit(&self, picture: &Rgb8) -> Result<Rgb8, ModelError> {
        self.processor()?.fit(picture)
    }

    /// Its processor, to be kept by other threads.
    ///
    /// # Errors
    /// [`ModelError::Image`] for networks of texts alone.
    pub fn processor(&self) -> Result<&ImageProcessor, ModelError> {
        self.network.processor().ok_or_else(|| {
            ModelError::Image(format!(
                "{}: this network encodes texts alone",
                self.path.display()
            ))
        })
    }

    /// Features `[N, D]` in the network's kind or a wider one, not normalised, of pictures as [`Self::fit`] makes them,
    /// all of one size. `pool` is for DINOv2 and ignored by the rest.
    ///
    /// # Errors
    /// [`ModelError::Image`]; libtorch's.
    pub fn embed_images(&self, pictures: &[&Rgb8], pool: Pooling) -> Result<Tensor, ModelError> {
        let (kind, device) = self.place;
        let pixels = self
            .processor()?
            .tensor(pictures, (reduce_kind(kind), device))?;
        guarded(|| {
            let rows = match &self.network {
                Network::Dinov2(network) => Some(network.embed(&pixels, pool)),
                Network::Clip(network) => network.embed_images(&pixels),
                Network::Siglip(network) => network.embed_images(&pixels),
                Network::DreamSim(network) => Some(network.embed(&pixels)),
                Network::Inception(network) => Some(network.embed(&pixels)),
                Network::XlmRoberta(_) => None,
            };
            rows.ok_or_else(|| ModelError::Image("this network encodes texts alone".into()))
        })
    }

    /// The ids of a text under the network's own rules of truncation and padding.
    ///
    /// # Errors
    /// [`ModelError::Text`] for networks of pictures alone and for folders without a tokenizer.
    pub fn tokenize(&self, text: &str) -> Result<Vec<i64>, ModelError> {
        self.text_tokens()?.ids(text)
    }

    /// Whether [`Self::tokenize`] keeps all of a text.
    ///
    /// # Errors
    /// As [`Self::tokenize`].
    pub fn reads_whole(&self, text: &str) -> Result<bool, ModelError> {
        self.text_tokens()?.are_all_of(text)
    }

    fn text_tokens(&self) -> Result<&TextTokens, ModelError> {
        self.rules()?;
        self.tokens.as_ref().ok_or_else(|| {
            ModelError::Text(format!(
                "{}: texts need the network's tokenizer.json beside its weights (or, for CLIP, vocab.json and merges.txt)",
                self.path.display()
            ))
        })
    }

    /// Checks ids that somebody else made.
    ///
    /// # Errors
    /// [`ModelError::Text`] when there are none, too many, or some outside the vocabulary.
    pub fn check_ids(&self, ids: &[i64]) -> Result<(), ModelError> {
        let TextRules { vocab, longest, .. } = self.rules()?;
        if ids.is_empty() || ids.len() as i64 > longest {
            return Err(ModelError::Text(format!(
                "a text must have from 1 to {longest} token ids, got {}",
                ids.len()
            )));
        }
        match ids.iter().find(|id| !(0..vocab).contains(*id)) {
            Some(id) => Err(ModelError::Text(format!(
                "token id {id} is not in 0..{vocab}"
            ))),
            None => Ok(()),
        }
    }

    /// Features `[N, D]` in the network's kind or a wider one, not normalised, of texts as ids; `width`, at least the
    /// longest, is how many places each takes. SigLIP reads its last place, so there all texts must
    /// be `width` long. `pool` is for XLM-RoBERTa and ignored by the rest.
    ///
    /// # Errors
    /// [`ModelError::Text`] as [`Self::check_ids`]; libtorch's.
    pub fn embed_ids(
        &self,
        texts: &[&[i64]],
        width: usize,
        pool: Pooling,
    ) -> Result<Tensor, ModelError> {
        let (ids, lengths) = self.padded(texts, width)?;
        guarded(|| {
            let rows = match &self.network {
                Network::Clip(network) => network.embed_tokens(&ids),
                Network::Siglip(network) => network.embed_tokens(&ids),
                Network::XlmRoberta(network) => Some(network.embed_tokens(&ids, &lengths, pool)),
                _ => None,
            };
            rows.ok_or_else(|| ModelError::Text("this network encodes pictures alone".into()))
        })
    }

    /// How many layers have tokens to give, and how many numbers each token has; none but for
    /// XLM-RoBERTa.
    pub fn token_layers(&self) -> Option<(usize, usize)> {
        match &self.network {
            Network::XlmRoberta(network) => Some((network.depth(), network.width())),
            _ => None,
        }
    }

    /// Every token's feature `[N, width, D]` behind layer `layer` (counted from 1), of texts as ids; those
    /// behind a text's last one mean nothing.
    ///
    /// # Errors
    /// [`ModelError::Text`] as [`Self::embed_ids`], and for networks without [`Self::token_layers`].
    pub fn embed_tokens(
        &self,
        texts: &[&[i64]],
        width: usize,
        layer: usize,
    ) -> Result<Tensor, ModelError> {
        let Network::XlmRoberta(network) = &self.network else {
            return Err(ModelError::Text(
                "tokens' features are XLM-RoBERTa's alone".into(),
            ));
        };
        let (ids, lengths) = self.padded(texts, width)?;
        guarded(|| Ok(network.hidden(&ids, &lengths, layer)))
    }

    /// Most ids of a text; none for networks of pictures alone.
    pub fn longest(&self) -> Option<usize> {
        self.network.rules().map(|rules| rules.longest as usize)
    }

    /// Ids `[N, width]` filled up with zeros, and each row's length.
    fn padded(&self, texts: &[&[i64]], width: usize) -> Result<(Tensor, Vec<i64>), ModelError> {
        let fixed = matches!(self.network, Network::Siglip(_));
        let mut flat = Vec::with_capacity(texts.len() * width);
        let mut lengths = Vec::with_capacity(texts.len());
        for ids in texts {
            self.check_ids(ids)?;
            if ids.len() > width || (fixed && ids.len() < width) {
                return Err(ModelError::Text(format!(
                    "a text of {} ids cannot take {width} places",
                    ids.len()
                )));
            }
            flat.extend_from_slice(ids);
            flat.extend(std::iter::repeat_n(0, width - ids.len()));
            lengths.push(ids.len() as i64);
        }
        let ids = Tensor::from_slice(&flat)
            .view([texts.len() as i64, width as i64])
            .to_device(self.place.1);
        Ok((ids, lengths))
    }

    fn rules(&self) -> Result<TextRules, ModelError> {
        self.network.rules().ok_or_else(|| {
            ModelError::Text(format!(
                "{}: this network encodes pictures alone",
                self.path.display()
            ))
        })
    }
}

/// Rows of unit length, in float32 at least: `x [N, D]`.
pub fn unit_rows(x: &Tensor) -> Tensor {
    tch::no_grad(|| block::unit_rows(x))
}

impl EachTensor for Network {
    fn each_tensor(&mut self, change: &mut TensorChange) {
        match self {
            Self::Dinov2(network) => network.each_tensor(change),
            Self::Clip(network) => network.each_tensor(change),
            Self::Siglip(network) => network.each_tensor(change),
            Self::XlmRoberta(network) => network.each_tensor(change),
            Self::DreamSim(network) => network.each_tensor(change),
            Self::Inception(network) => network.each_tensor(change),
        }
    }
}

impl Network {
    fn of_folder(folder: &Path, place: (Kind, Device)) -> Result<Self, ModelError> {
        if dreamsim::matches(folder) {
            return DreamSim::load(folder, place).map(Self::DreamSim);
        }
        Self::of_weights(folder, || {
            Ok(Weights::new(folder, weights::read_folder(folder)?, place))
        })
    }

    /// The network that `config.json` of `folder` describes, with the weights that `read` gives.
    fn of_weights(
        folder: &Path,
        read: impl FnOnce() -> Result<Weights, ModelError>,
    ) -> Result<Self, ModelError> {
        let path = folder.join("config.json");
        let config = Section::read(&path)?;
        let clip =
            |towers, weights| Clip::load(Some(folder), &config, towers, weights).map(Self::Clip);
        let siglip =
            |towers, weights| Siglip::load(folder, &config, towers, weights).map(Self::Siglip);
        match config.text("model_type") {
            Some("dinov2") => Dinov2::load(Some(folder), &config, read()?).map(Self::Dinov2),
            Some("clip") => clip(Towers::Both, read()?),
            Some("clip_vision_model") => clip(Towers::Vision, read()?),
            Some("clip_text_model") => clip(Towers::Text, read()?),
            Some("siglip") => siglip(Towers::Both, read()?),
            Some("siglip_vision_model") => siglip(Towers::Vision, read()?),
            Some("siglip_text_model") => siglip(Towers::Text, read()?),
            Some("xlm-roberta") => XlmRoberta::load(folder, &config, read()?).map(Self::XlmRoberta),
            Some("siglip2") => Err(config.bad(
                "model_type",
                "`siglip2` is the NaFlex form, which is not supported; use SigLIP 2 of fixed resolution (model_type siglip)",
            )),
            Some(other) => Err(config.bad(
                "model_type",
                format!("`{other}` is not supported; dinov2, clip, siglip (or one tower of either) and xlm-roberta are"),
            )),
            None => Err(config.bad("model_type", "is missing")),
        }
    }

    fn of_file(path: &Path, place: (Kind, Device)) -> Result<Self, ModelError> {
        let weights = Weights::new(path, weights::read_file(path)?, place);
        if openai_clip::matches(&weights) {
            return openai_clip::load(path, weights, None).map(Self::Clip);
        }
        if inception::matches(&weights) {
            return Inception::load(weights).map(Self::Inception);
        }
        Err(ModelError::malformed(
            path,
            "holds no encoder that is known: of single files, CLIP's, Long-CLIP's and pytorch-fid's are",
        ))
    }

    fn processor(&self) -> Option<&ImageProcessor> {
        match self {
            Self::Dinov2(network) => Some(&network.processor),
            Self::Clip(network) => network.processor.as_ref(),
            Self::Siglip(network) => network.processor.as_ref(),
            Self::DreamSim(network) => Some(&network.processor),
            Self::Inception(network) => Some(&network.processor),
            Self::XlmRoberta(_) => None,
        }
    }

    fn rules(&self) -> Option<TextRules> {
        match self {
            Self::Dinov2(_) | Self::DreamSim(_) | Self::Inception(_) => None,
            Self::Clip(network) => network.rules,
            Self::Siglip(network) => network.rules,
            Self::XlmRoberta(network) => Some(network.rules),
        }
    }
}
