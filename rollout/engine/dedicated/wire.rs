//! What a learner and a sampler say to each other, and how it lies in a stream: a header in JSON and, behind it, bytes. A
//! frame without a header is a sign of life.

use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::sync::Arc;

use models::ImagePositions;
use models::image::{ProcessedPicture, PromptImages};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::engine::{Request, Sampling};
use crate::{Completion, FinishReason, VersionSpan};

/// The longest header and the most bytes behind it that are read.
const MOST: (u32, u64) = (1 << 28, 1 << 34);

/// A frame: its header, and the bytes behind it.
pub(super) type SamplerFrame = (Vec<u8>, Vec<u8>);

/// What a learner says to a sampler.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum ToSampler {
    /// The first word of a connection.
    Hello {
        /// What only this run's processes know.
        token: String,
        /// The learner's rank.
        rank: usize,
        /// Whether it is the one that gives weights.
        gives: bool,
        /// What the policy is made of, where the sampler's own config does not say it.
        policy: Option<String>,
    },
    /// Completions of a prompt; its pictures' pixels lie behind.
    Ask(Box<AskedPrompt>),
    /// Nothing that this learner has asked for is wanted any more.
    Forget,
    /// A new group in which weights are broadcast.
    Join(WeightSeat),
    /// Weights follow in the group.
    Weights {
        /// How they are called from now on.
        version: u64,
        /// Completions at a time, and tokens of the cache (0: as many as these need).
        bounds: (usize, usize),
    },
    /// The run has ended.
    Bye,
}

/// What a sampler says to a learner.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum FromSampler {
    /// Its policy is built.
    Welcome,
    /// It goes on with what it was asked for.
    GoesOn,
    /// A completion has ended.
    Done(DoneSample),
    /// It comes to the group.
    Comes,
    /// It has weights with this digest.
    Synced {
        /// Their version.
        version: u64,
        /// [`super::buckets::WeightDigest`] of what it has.
        digest: u64,
    },
    /// It has no new weights, and why.
    NotSynced(String),
    /// It ends, and why.
    Failed(String),
    /// It was asked for what nobody can sample.
    Refused(String),
}

/// A sampler's place in the group of the weights.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct WeightSeat {
    /// The group's name in the store.
    pub(super) prefix: String,
    /// The sampler's rank in it, > 0.
    pub(super) rank: usize,
    /// How many take part.
    pub(super) size: usize,
    /// Milliseconds that a collective may take.
    pub(super) timeout_ms: u64,
    /// Names, shapes and kinds of what comes.
    pub(super) plan: u64,
    /// An address of another machine that takes part, if one does.
    pub(super) outside: Option<IpAddr>,
}

/// Some completions of one prompt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AskedPrompt {
    /// The learner's number for it.
    pub(super) key: u64,
    ids: Vec<i64>,
    draw: u64,
    lengths: Option<Vec<usize>>,
    /// The numbers of the completions among their siblings.
    pub(super) wanted: Vec<usize>,
    pub(super) sampling: Sampling,
    pub(super) seed: u64,
    pictures: Option<AskedPictures>,
}

/// A prompt's pictures, but for their pixels.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct AskedPictures {
    /// Bytes, rows, grid and tokens of each.
    pictures: Vec<(usize, i64, (i64, i64), i64)>,
    rows: Vec<i64>,
    positions: Vec<[i64; 3]>,
    next: i64,
}

/// A completion on its way back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DoneSample {
    /// [`AskedPrompt::key`].
    pub(super) key: u64,
    /// Which of its siblings.
    pub(super) index: usize,
    ids: Vec<i64>,
    /// Bits of float32, so that every one of them arrives as it is.
    logprobs: Vec<u32>,
    drawn_logprobs: Vec<u32>,
    text: Option<String>,
    finish: FinishReason,
}

impl AskedPrompt {
    /// The completions `wanted` of `request`, and the bytes of its pictures.
    pub(super) fn of(
        key: u64,
        (request, wanted): (&Request, Vec<usize>),
        (sampling, seed): (&Sampling, u64),
    ) -> (Self, Vec<u8>) {
        let mut pixels = Vec::new();
        let pictures = request.images.as_ref().map(|images| {
            let mut all = Vec::new();
            for picture in &images.pictures {
                pixels.extend_from_slice(&picture.pixels);
                let bytes = picture.pixels.len();
                all.push((bytes, picture.rows, picture.grid, picture.tokens));
            }
            AskedPictures {
                pictures: all,
                rows: images.positions.rows.clone(),
                positions: images.positions.positions.clone(),
                next: images.positions.next,
            }
        });
        let asked = Self {
            key,
            ids: request.ids.to_vec(),
            draw: request.draw,
            lengths: request.lengths.as_ref().map(|lengths| lengths.to_vec()),
            wanted,
            sampling: sampling.clone(),
            seed,
            pictures,
        };
        (asked, pixels)
    }

    /// The prompt as an engine takes it, called `group`; `None` where the pixels are not those of its pictures.
    pub(super) fn request(&self, pixels: &[u8], group: usize) -> Option<Request> {
        let images = match &self.pictures {
            None => None,
            Some(asked) => {
                let mut rest = pixels;
                let mut pictures = Vec::new();
                for (bytes, rows, grid, tokens) in &asked.pictures {
                    let (own, left) = rest.split_at_checked(*bytes)?;
                    rest = left;
                    pictures.push(ProcessedPicture {
                        pixels: own.to_vec(),
                        rows: *rows,
                        grid: *grid,
                        tokens: *tokens,
                    });
                }
                Some(Arc::new(PromptImages {
                    pictures,
                    positions: ImagePositions {
                        rows: asked.rows.clone(),
                        positions: asked.positions.clone(),
                        next: asked.next,
                    },
                }))
            }
        };
        Some(Request {
            group,
            ids: self.ids.as_slice().into(),
            images,
            samples: self.wanted.len(),
            draw: self.draw,
            lengths: self.lengths.as_deref().map(Arc::from),
        })
    }
}

impl DoneSample {
    /// Completion `index` of what was asked for as `key`.
    pub(super) fn of(key: u64, index: usize, completion: Completion) -> Self {
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
        Self {
            key,
            index,
            logprobs: bits(&completion.logprobs),
            drawn_logprobs: bits(&completion.drawn_logprobs),
            ids: completion.ids,
            text: completion.text,
            finish: completion.finish,
        }
    }

    /// The completion, which weights called `version` wrote.
    pub(super) fn completion(self, version: u64) -> Completion {
        let values = |bits: Vec<u32>| bits.into_iter().map(f32::from_bits).collect();
        let end = self.ids.len();
        Completion {
            ids: self.ids,
            logprobs: values(self.logprobs),
            drawn_logprobs: values(self.drawn_logprobs),
            text: self.text,
            finish: self.finish,
            spans: vec![VersionSpan { version, end }],
        }
    }
}

/// `word` as a frame, with `bytes` behind it.
pub(super) fn framed(word: &impl Serialize, bytes: Vec<u8>) -> SamplerFrame {
    let head = serde_json::to_vec(word).expect("words of numbers and strings serialise");
    (head, bytes)
}

/// Writes a frame; an empty one is a sign of life.
pub(super) fn write_frame(to: &mut impl Write, (head, bytes): &SamplerFrame) -> io::Result<()> {
    let long = |_| io::Error::new(ErrorKind::InvalidInput, "a header of more than 4 GB");
    let lengths = (u32::try_from(head.len()).map_err(long)?, bytes.len() as u64);
    let mut start = [0; 12];
    start[..4].copy_from_slice(&lengths.0.to_le_bytes());
    start[4..].copy_from_slice(&lengths.1.to_le_bytes());
    to.write_all(&start)?;
    to.write_all(head)?;
    to.write_all(bytes)?;
    to.flush()
}

/// Reads the next word and the bytes behind it, past signs of life.
pub(super) fn read_frame<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<(T, Vec<u8>)> {
    let foreign = |what: String| io::Error::new(ErrorKind::InvalidData, what);
    loop {
        let (mut head, mut behind) = ([0; 4], [0; 8]);
        from.read_exact(&mut head)?;
        from.read_exact(&mut behind)?;
        let lengths = (u32::from_le_bytes(head), u64::from_le_bytes(behind));
        if lengths == (0, 0) {
            continue;
        }
        if lengths.0 > MOST.0 || lengths.1 > MOST.1 {
            return Err(foreign("what was said is no word of this program".into()));
        }
        // Read as it comes: whoever only says that much comes takes no memory.
        let mut take = |bytes: u64| -> io::Result<Vec<u8>> {
            let mut all = Vec::new();
            let read = from.by_ref().take(bytes).read_to_end(&mut all)?;
            match read as u64 == bytes {
                true => Ok(all),
                false => Err(ErrorKind::UnexpectedEof.into()),
            }
        };
        let (head, bytes) = (take(lengths.0.into())?, take(lengths.1)?);
        let word = serde_json::from_slice(&head).map_err(|error| foreign(error.to_string()))?;
        return Ok((word, bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_with_a_picture_arrives_as_it_was_and_half_of_it_does_not() {
        let images = PromptImages {
            pictures: vec![ProcessedPicture {
                pixels: vec![1, 2, 3, 4],
                rows: 2,
                grid: (1, 2),
                tokens: 1,
            }],
            positions: ImagePositions {
                rows: vec![1],
                positions: vec![[0; 3], [1; 3]],
                next: 2,
            },
        };
        let request = Request {
            group: 7,
            ids: [5, 6].into(),
            images: Some(Arc::new(images)),
            samples: 3,
            draw: u64::MAX,
            lengths: None,
        };
        let (asked, pixels) = AskedPrompt::of(9, (&request, vec![0, 2]), (&Sampling::default(), 4));
        let mut stream = Vec::new();
        write_frame(&mut stream, &(Vec::new(), Vec::new())).unwrap();
        write_frame(
            &mut stream,
            &framed(&ToSampler::Ask(Box::new(asked)), pixels),
        )
        .unwrap();
        let (word, pixels) = read_frame::<ToSampler>(&mut stream.as_slice()).unwrap();
        let ToSampler::Ask(asked) = word else {
            panic!("another word: {word:?}");
        };
        let back = asked.request(&pixels, 7).unwrap();
        assert_eq!(
            (back.draw, back.samples, &*back.ids),
            (u64::MAX, 2, &[5, 6][..])
        );
        assert_eq!(back.images, request.images);
        assert!(asked.request(&pixels[..3], 7).is_none());
        let half = &stream[..stream.len() - 1];
        assert!(read_frame::<ToSampler>(&mut &*half).is_err());
    }

    #[test]
    fn every_bit_of_a_log_probability_arrives() {
        let completion = Completion {
            ids: vec![1, 2],
            logprobs: vec![-0.1, f32::NEG_INFINITY],
            drawn_logprobs: vec![-1e-30, -0.0],
            text: Some("<svg \u{e9}".into()),
            finish: FinishReason::Length,
            spans: vec![VersionSpan { version: 3, end: 2 }],
        };
        let (head, bytes) = framed(
            &FromSampler::Done(DoneSample::of(1, 2, completion.clone())),
            Vec::new(),
        );
        let mut stream = Vec::new();
        write_frame(&mut stream, &(head, bytes)).unwrap();
        let (word, _) = read_frame::<FromSampler>(&mut stream.as_slice()).unwrap();
        let FromSampler::Done(done) = word else {
            panic!("another word: {word:?}");
        };
        assert_eq!(done.completion(3), completion);
    }
}
