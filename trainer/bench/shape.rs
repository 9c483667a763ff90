//! Networks to measure with, of real shapes and fresh weights, and prompts for them.

use std::path::Path;
use std::sync::Arc;

use models::image::PromptImages;
use models::image::Rgb8;
use models::{Architecture, Decoder, InitConfig, InitVision, LoraConfig};
use tch::{Device, Kind};

use crate::TrainError;

/// A network's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// Qwen3, 5 million weights: hidden 256, 6 layers, 8 heads of 32, 4 key heads, vocabulary 1,024.
    Small,
    /// The same behind a tower of 4 layers: a picture in each prompt.
    SmallVl,
    /// Qwen3-1.7B: the largest here whose step, at 20 bytes a weight in bfloat16, fits one GPU of 80 GB.
    #[value(name = "qwen3-1.7b")]
    Qwen3With2b,
    /// Qwen3-8B.
    #[value(name = "qwen3-8b")]
    Qwen3With8b,
    /// Qwen3-VL-8B: a picture in each prompt.
    #[value(name = "qwen3-vl-8b")]
    Qwen3VlWith8b,
    /// Qwen2.5-7B.
    #[value(name = "qwen2.5-7b")]
    Qwen25With7b,
}

/// Words of a prompt, in tokens.
const PROMPT: usize = 34;
/// Side of a prompt's picture, in pixels.
const SIDE: usize = 448;

/// A prompt to measure with.
pub(crate) struct BenchPrompt {
    /// Its tokens.
    pub ids: Arc<[i64]>,
    /// Its picture, for a network that sees.
    pub shown: Option<Arc<PromptImages>>,
}

impl Shape {
    fn init(self) -> InitConfig {
        let small = InitConfig {
            vocab_size: 1024,
            head_dim: 32,
            ..InitConfig::default()
        };
        match self {
            Self::Small => small,
            Self::SmallVl => InitConfig {
                vision: Some(InitVision::default()),
                ..small
            },
            Self::Qwen3With2b => InitConfig {
                vocab_size: 151_936,
                hidden_size: 2048,
                intermediate_size: 6144,
                num_hidden_layers: 28,
                num_attention_heads: 16,
                num_key_value_heads: 8,
                head_dim: 128,
                ..small
            },
            Self::Qwen3With8b => InitConfig {
                vocab_size: 151_936,
                hidden_size: 4096,
                intermediate_size: 12_288,
                num_hidden_layers: 36,
                num_attention_heads: 32,
                num_key_value_heads: 8,
                head_dim: 128,
                tie_word_embeddings: false,
                ..small
            },
            Self::Qwen3VlWith8b => InitConfig {
                vision: Some(InitVision {
                    depth: 27,
                    hidden_size: 1152,
                    intermediate_size: 4304,
                    num_heads: 16,
                    grid: 48,
                    deepstack: vec![8, 16, 24],
                    ..InitVision::default()
                }),
                ..Self::Qwen3With8b.init()
            },
            Self::Qwen25With7b => InitConfig {
                architecture: Architecture::Qwen2,
                vocab_size: 152_064,
                hidden_size: 3584,
                intermediate_size: 18_944,
                num_hidden_layers: 28,
                num_attention_heads: 28,
                num_key_value_heads: 4,
                head_dim: 128,
                tie_word_embeddings: false,
                ..small
            },
        }
    }

    /// The network with fresh weights.
    ///
    /// # Errors
    /// None in practice: the shapes are given here.
    pub(crate) fn model(self, place: (Kind, Device)) -> Result<Decoder, TrainError> {
        self.adapted(0, place)
    }

    /// The network with fresh weights, and adapters of `rank` in all linear layers that alone learn; 0: without.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn adapted(
        self,
        rank: i64,
        (kind, device): (Kind, Device),
    ) -> Result<Decoder, TrainError> {
        let init = self.init();
        let mut config = init.decoder(0, &[]);
        if let Some(vision) = &init.vision {
            // The last four of the vocabulary, which no prompt's words use.
            let last = config.vocab_size;
            vision.attach(&mut config, [last - 4, last - 3, last - 2, last - 1])?;
        }
        let model = match rank {
            0 => Decoder::new(config, kind, device),
            _ => {
                let lora = LoraConfig {
                    rank,
                    ..LoraConfig::default()
                };
                Decoder::with_adapters(config, &lora, (Path::new(""), 0), (kind, device))?
            }
        };
        model.randomise(0);
        model.draw_adapters();
        Ok(model)
    }

    /// Prompt `index`.
    ///
    /// # Errors
    /// None in practice: the picture is given here.
    pub(crate) fn prompt(self, model: &Decoder, index: usize) -> Result<BenchPrompt, TrainError> {
        self.prompt_of(model, (index, PROMPT))
    }

    /// Prompt `index` with so many words.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn prompt_of(
        self,
        model: &Decoder,
        (index, words): (usize, usize),
    ) -> Result<BenchPrompt, TrainError> {
        let words = (0..words).map(|at| ((index * 131 + at * 17) % 1000) as i64);
        let (Some(eyes), Some(vision)) = (model.vision(), &model.config.vision) else {
            return Ok(BenchPrompt {
                ids: words.collect(),
                shown: None,
            });
        };
        let image = vision.tower.tokens.image;
        let rgb = Rgb8 {
            width: SIDE,
            height: SIDE,
            data: (0..SIDE * SIDE * 3)
                .map(|at| ((at * 7 + index) % 251) as u8)
                .collect(),
        };
        let picture = eyes.processor.picture(&rgb)?;
        let ids: Vec<i64> = std::iter::repeat_n(image, picture.tokens as usize)
            .chain(words)
            .collect();
        let shown = eyes
            .processor
            .prompt_images(&ids, vec![picture])
            .map_err(TrainError::Input)?;
        Ok(BenchPrompt {
            ids: ids.into(),
            shown,
        })
    }
}
