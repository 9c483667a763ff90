//! What is done to an item on any core before networks see it: pictures read or drawn and brought to their sizes,
//! metrics of pixels and tokens taken.

use std::time::Duration;

use models::Tokenizer;
use models::image::{ImageProcessor, Rgb8};
use rewards::ImageSource;
use rewards::rules::ssim::{Ssim, Window};
use rewards::rules::{Mse, Psnr};
use svg::{Failure, Filter, ParseMode, Raster, Reason, Renderer, WorkerProgram};

use super::config::SuiteConfig;
use super::eval_canvas::{EvalCanvas, MissingPicture};
use super::item::EvalItem;
use super::networks::{PicturePair, SuiteNetworks};
use super::picture_metric::{PictureMetric, SuiteNetwork};
use super::picture_task::{EvalReference, PictureCase, PictureTask};
use super::prediction::Prediction;
use crate::TrainError;

/// The tools of one evaluation's preparation.
pub struct Preparation {
    renderer: Renderer,
    tokenizer: Option<Tokenizer>,
    processors: Vec<(SuiteNetwork, ImageProcessor)>,
    lpips: bool,
}

/// What a judge elsewhere may be shown of an item: PNG files.
pub struct JudgedPictures {
    /// The prediction, or what stands for it.
    pub prediction: Vec<u8>,
    /// Whether the prediction could be drawn.
    pub drawn: bool,
    /// The reference, where there is one.
    pub reference: Option<Vec<u8>>,
}

/// An item ready for networks.
pub struct PreparedCase {
    /// The task's place in its list, and the item's among its rows.
    pub place: (usize, usize),
    /// With the numbers that need no network.
    pub item: EvalItem,
    /// The two pictures as each encoder takes them.
    pub fitted: Vec<(SuiteNetwork, PicturePair)>,
    /// The two pictures as LPIPS takes them.
    pub whole: Option<PicturePair>,
    /// The caption.
    pub caption: Option<String>,
}

impl Preparation {
    /// For a config's tokenizer and the networks that will look.
    ///
    /// # Errors
    /// A tokenizer that cannot be read, a missing render worker.
    pub fn new(config: &SuiteConfig, networks: &SuiteNetworks) -> Result<Self, TrainError> {
        let deadline = Duration::from_millis(config.deadline_ms);
        let renderer = Renderer::new(&WorkerProgram::Installed, deadline)
            .map_err(|failure| TrainError::Other(failure.to_string()))?;
        let tokenizer = config.tokenizer.as_deref().map(Tokenizer::read).transpose();
        Ok(Self {
            renderer,
            tokenizer: tokenizer
                .map_err(|error| TrainError::Input(format!("tokenizer: {error}")))?,
            processors: networks.processors(),
            lpips: networks.has_lpips(),
        })
    }

    /// Whether tokens can be counted.
    pub fn counts_tokens(&self) -> bool {
        self.tokenizer.is_some()
    }

    /// Prepares one item of `task`.
    ///
    /// # Errors
    /// A machine that cannot draw: nothing is said of the prediction.
    pub fn prepare(
        &self,
        task: &PictureTask,
        case: &PictureCase,
    ) -> Result<PreparedCase, TrainError> {
        let row = &task.rows[case.row];
        let (picture, svg, reason) = self.predicted(task.canvas, &case.prediction)?;
        let mut item = EvalItem::new(&task.name, &row.id, reason);
        let of_pictures = task.metrics.iter().filter(|metric| metric.is_of_pictures());
        let has = |metric| task.metrics.contains(&metric);
        if let (Some(tokenizer), true, true) =
            (&self.tokenizer, has(PictureMetric::Tokens), item.valid)
        {
            match svg {
                Some(svg) => item.put("tokens", tokenizer.encode(&svg).len() as f64),
                None => item.fail("tokens", "the picture's SVG is missing"),
            }
        }
        let mut prepared = PreparedCase {
            place: (case.task, case.row),
            item,
            fitted: Vec::new(),
            whole: None,
            caption: None,
        };
        if !prepared.item.valid && task.canvas.missing == MissingPicture::Zero {
            of_pictures.for_each(|metric| prepared.item.put(metric.name(), 0.0));
            return Ok(prepared);
        }
        if row.reference == EvalReference::Absent {
            return Ok(prepared);
        }
        let reference = match self.reference(task.canvas, &row.reference)? {
            Ok(reference) => reference,
            Err(why) => {
                for metric in of_pictures {
                    prepared
                        .item
                        .fail(metric.name(), format!("the reference: {why}"));
                }
                return Ok(prepared);
            }
        };
        for metric in task.metrics.iter().filter(|metric| metric.is_of_words()) {
            match &row.caption {
                Some(Ok(caption)) => prepared.caption = Some(caption.clone()),
                Some(Err(why)) => prepared.item.fail(metric.name(), why.clone()),
                None => prepared.item.fail(metric.name(), "the item has no caption"),
            }
        }
        let pair = [picture, reference];
        self.pixels(task, &pair, &mut prepared.item);
        self.fit(task, &pair, &mut prepared);
        let [a, b] = &pair;
        if self.lpips && has(PictureMetric::Lpips) {
            prepared.whole = match task.canvas.lpips_side {
                Some(side) => {
                    Some(pair.map(|p| p.resized(side, side, Filter::Bilinear).into_owned()))
                }
                None if (a.width, a.height) == (b.width, b.height) => Some(pair),
                None => None,
            };
        }
        Ok(prepared)
    }

    /// The picture of a prediction, the canvas' own where there is none, its SVG, and why there is none.
    fn predicted(
        &self,
        canvas: EvalCanvas,
        prediction: &Prediction,
    ) -> Result<(Rgb8, Option<String>, Option<String>), TrainError> {
        let filled = |failed| {
            let side = canvas.side();
            Rgb8 {
                width: side,
                height: side,
                data: canvas.missing_picture(failed),
            }
        };
        let missing = |why: String| Ok((filled(None), None, Some(why)));
        match prediction {
            Prediction::Missing(why) => missing(why.clone()),
            Prediction::Given(file, svg) => match read_picture(file) {
                Ok(picture) => Ok((picture, svg.clone(), None)),
                Err(why) => missing(format!("unreadable: {why}")),
            },
            Prediction::StandIn(file, why) => match read_picture(file) {
                Ok(picture) => Ok((picture, None, Some(why.clone()))),
                Err(_) => missing(why.clone()),
            },
            Prediction::Svg(source) => match self.drawn(canvas, source)? {
                Ok(drawn) => Ok((drawn, Some(source.clone()), None)),
                Err(failure) => Ok((
                    filled(Some(failure.reason)),
                    None,
                    Some(failure.to_string()),
                )),
            },
        }
    }

    /// Prediction as a PNG file, and the reference where there is one; none where there should be one and is not.
    ///
    /// # Errors
    /// A machine that cannot draw.
    pub fn files(
        &self,
        canvas: EvalCanvas,
        (prediction, reference): (&Prediction, &EvalReference),
    ) -> Result<Option<JudgedPictures>, TrainError> {
        let (predicted, _, reason) = self.predicted(canvas, prediction)?;
        let png = |picture: &Rgb8| {
            let bytes = raster(picture).to_png();
            bytes.map_err(|error| TrainError::Other(error.to_string()))
        };
        let reference = match reference {
            EvalReference::Absent => None,
            reference => match self.reference(canvas, reference)? {
                Ok(reference) => Some(png(&reference)?),
                Err(_) => return Ok(None),
            },
        };
        Ok(Some(JudgedPictures {
            prediction: png(&predicted)?,
            drawn: reason.is_none(),
            reference,
        }))
    }

    /// A reference's picture.
    fn reference(
        &self,
        canvas: EvalCanvas,
        reference: &EvalReference,
    ) -> Result<Result<Rgb8, String>, TrainError> {
        let path = match reference {
            EvalReference::Absent => return Ok(Err("there is none".into())),
            EvalReference::Svg(source) => {
                let drawn = self.drawn(canvas, source)?;
                return Ok(drawn.map_err(|error| error.to_string()));
            }
            EvalReference::File(path) => path,
        };
        if path.extension().is_none_or(|ending| ending != "svg") {
            return Ok(read_picture(path));
        }
        let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        Ok(match std::fs::read_to_string(path) {
            Ok(source) => self.drawn(canvas, &source)?.map_err(|error| told(&error)),
            Err(error) => Err(told(&error)),
        })
    }

    /// An SVG's picture, or why it has none.
    fn drawn(&self, canvas: EvalCanvas, source: &str) -> Result<Result<Rgb8, Failure>, TrainError> {
        let draw = |mode| {
            let config = canvas.render(mode);
            let drawn = self.renderer.render(source, config.own_target(), &config);
            drawn.map(|drawn| rgb(&drawn.raster))
        };
        let mut drawn = draw(ParseMode::Strict);
        if canvas.repairs
            && drawn
                .as_ref()
                .is_err_and(|failure| failure.reason == Reason::MalformedXml)
        {
            drawn = draw(ParseMode::Recover);
        }
        match drawn {
            Err(failure) if failure.reason == Reason::WorkerUnavailable => {
                Err(TrainError::Other(failure.to_string()))
            }
            drawn => Ok(drawn),
        }
    }

    /// The metrics of pixels.
    fn pixels(&self, task: &PictureTask, [a, b]: &PicturePair, item: &mut EvalItem) {
        let own_size = task.canvas.lpips_side.is_none();
        let wanted = task.metrics.iter().filter(|metric| match metric {
            PictureMetric::Ssim | PictureMetric::Psnr | PictureMetric::Mse => true,
            PictureMetric::Lpips => own_size,
            _ => false,
        });
        if (a.width, a.height) != (b.width, b.height) {
            for metric in wanted {
                let sizes = format!(
                    "the prediction is {}x{} pixels, the reference {}x{}",
                    a.width, a.height, b.width, b.height
                );
                item.fail(metric.name(), sizes);
            }
            return;
        }
        let white = [255; 3];
        let rasters = [a, b].map(raster);
        for metric in wanted {
            match metric {
                PictureMetric::Ssim if a.width.min(a.height) < 11 => {
                    item.fail("ssim", "pictures of fewer than 11 pixels");
                }
                PictureMetric::Ssim => {
                    let ssim = Ssim {
                        window: Window::Uniform,
                        window_size: 11,
                        ..Ssim::default()
                    };
                    item.put("ssim", ssim.between(&rasters[0], &rasters[1], white));
                }
                PictureMetric::Psnr => {
                    item.put("psnr", Psnr::between(&rasters[0], &rasters[1], white));
                }
                PictureMetric::Mse => {
                    item.put("mse", Mse::between(&rasters[0], &rasters[1], white));
                }
                _ => {}
            }
        }
    }

    /// Brings both pictures to the size of each encoder that the task needs.
    fn fit(&self, task: &PictureTask, pair: &PicturePair, prepared: &mut PreparedCase) {
        for (network, processor) in &self.processors {
            let needed = task
                .metrics
                .iter()
                .filter(|metric| metric.network() == Some(*network));
            let mut needed = needed.peekable();
            if needed.peek().is_none() {
                continue;
            }
            let reference = match task.canvas.squash {
                Some(side) => pair[1].resized(side, side, Filter::Bilinear),
                None => std::borrow::Cow::Borrowed(&pair[1]),
            };
            let fitted = processor
                .fit(&pair[0])
                .and_then(|a| Ok([a, processor.fit(&reference)?]));
            match fitted {
                Ok(fitted) => prepared.fitted.push((*network, fitted)),
                Err(error) => {
                    for metric in needed {
                        prepared.item.fail(metric.name(), error.to_string());
                    }
                }
            }
        }
    }
}

fn read_picture(path: &std::path::Path) -> Result<Rgb8, String> {
    let bytes = ImageSource::Path(path.to_owned()).read();
    let bytes = bytes.map_err(|error| error.to_string())?;
    Rgb8::decode(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}

fn rgb(raster: &Raster) -> Rgb8 {
    Rgb8 {
        width: raster.width as usize,
        height: raster.height as usize,
        data: raster.rgb_over([255; 3]),
    }
}

fn raster(picture: &Rgb8) -> Raster {
    let opaque = |pixel: &[u8; 3]| [pixel[0], pixel[1], pixel[2], 255];
    Raster {
        width: picture.width as u32,
        height: picture.height as u32,
        rgba: picture
            .data
            .as_chunks::<3>()
            .0
            .iter()
            .flat_map(opaque)
            .collect(),
    }
}
