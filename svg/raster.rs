//! A picture in memory and its PNG form. Colour space sRGB, 8 bits, straight (not premultiplied) alpha.

use std::io::Cursor;

use jpeg_decoder::PixelFormat;

/// `rgba` holds `height * width` pixels of four bytes, rows from the top, straight alpha.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raster {
    /// Pixels of a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Red, green, blue and alpha of each pixel.
    pub rgba: Vec<u8>,
}

/// A picture that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RasterError {
    /// A broken PNG.
    #[error("cannot read PNG: {0}")]
    Decode(#[from] png::DecodingError),
    /// A PNG that cannot be made.
    #[error("cannot write PNG: {0}")]
    Encode(#[from] png::EncodingError),
    /// A broken JPEG.
    #[error("cannot read JPEG: {0}")]
    Jpeg(#[from] jpeg_decoder::Error),
    /// A broken WebP.
    #[error("cannot read WebP: {0}")]
    Webp(#[from] image_webp::DecodingError),
    /// A file of another kind, by its name.
    #[error("{0} (PNG, JPEG and WebP are read: convert it)")]
    Format(&'static str),
    /// A file that lacks its end.
    #[error("the file is cut off: its end is missing")]
    CutOff,
    /// A side that is too long.
    #[error("picture of {width}x{height} pixels: at most {max} on a side")]
    TooLarge {
        /// Pixels of a row.
        width: u32,
        /// Rows.
        height: u32,
        /// The caller's bound on either.
        max: u32,
    },
    /// More pixels than any picture may have.
    #[error("picture of {width}x{height} pixels: at most {MAX_PIXELS} in all")]
    TooMany {
        /// Pixels of a row.
        width: u32,
        /// Rows.
        height: u32,
    },
}

/// Most pixels of a picture that is read, as Pillow's guard against decompression bombs has it.
const MAX_PIXELS: u64 = 178_956_970;

/// Refuses a size before anything is made for it.
fn check_size(width: u32, height: u32, max: u32) -> Result<(), RasterError> {
    if width > max || height > max {
        return Err(RasterError::TooLarge { width, height, max });
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(RasterError::TooMany { width, height });
    }
    Ok(())
}

/// Reads a JPEG as far as its size.
fn jpeg_size(
    decoder: &mut jpeg_decoder::Decoder<Cursor<&[u8]>>,
) -> Result<(u32, u32), RasterError> {
    decoder.read_info()?;
    let info = decoder
        .info()
        .ok_or(jpeg_decoder::Error::Format("it has no size".into()))?;
    Ok((u32::from(info.width), u32::from(info.height)))
}

/// Whether a PNG's chunks, each of a length, a name, data and a checksum, reach its last one.
fn png_ends(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(8..).unwrap_or_default();
    while let Some(([a, b, c, d, name @ ..], _)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let Some(after) = length.checked_add(12).and_then(|all| rest.get(all..)) else {
            return false;
        };
        if name == b"IEND" {
            return true;
        }
        rest = after;
    }
    false
}

/// Whether a WebP is as long as it says.
fn webp_ends(bytes: &[u8]) -> bool {
    let length = bytes.get(4..8).and_then(|length| length.try_into().ok());
    length.is_some_and(|length| bytes.len() - 8 >= u32::from_le_bytes(length) as usize)
}

/// What a file that is not read is.
fn other_format(bytes: &[u8]) -> &'static str {
    match bytes {
        [] => "an empty file",
        [b'G', b'I', b'F', b'8', ..] => "a GIF picture",
        [b'B', b'M', ..] => "a BMP picture",
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => "a TIFF picture",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "a film, or an AVIF or HEIC picture",
        _ => "neither PNG nor JPEG nor WebP",
    }
}

/// Opaque pixels from packed ones of `N` bytes.
fn expand<const N: usize>(data: &[u8], rgb: impl Fn([u8; N]) -> [u8; 3]) -> Vec<u8> {
    let pixels = data.as_chunks::<N>().0.iter();
    pixels
        .flat_map(|pixel| {
            let [r, g, b] = rgb(*pixel);
            [r, g, b, 255]
        })
        .collect()
}

impl Raster {
    /// A canvas of one colour.
    pub fn filled(width: u32, height: u32, rgba: [u8; 4]) -> Self {
        Raster {
            width,
            height,
            rgba: rgba.repeat(width as usize * height as usize),
        }
    }

    /// The pixels as `[height, width, 3]` bytes, composited over `background`.
    pub fn rgb_over(&self, background: [u8; 3]) -> Vec<u8> {
        let mut rgb = Vec::with_capacity(self.rgba.len() / 4 * 3);
        for pixel in self.rgba.as_chunks::<4>().0 {
            let alpha = u32::from(pixel[3]);
            for channel in 0..3 {
                let mixed = u32::from(pixel[channel]) * alpha
                    + u32::from(background[channel]) * (255 - alpha);
                rgb.push(((mixed + 127) / 255) as u8);
            }
        }
        rgb
    }

    /// Encodes as an 8-bit RGBA PNG.
    pub fn to_png(&self) -> Result<Vec<u8>, RasterError> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width, self.height);
        encoder.set_color(png::ColorType::Rgba);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.rgba)?;
        writer.finish()?;
        Ok(bytes)
    }

    /// Width and height of a PNG, a JPEG or a WebP by its header; the pixels are not looked at.
    pub fn size(bytes: &[u8]) -> Result<(u32, u32), RasterError> {
        match bytes {
            [0x89, b'P', b'N', b'G', ..] => {
                let reader = png::Decoder::new(Cursor::new(bytes)).read_info()?;
                Ok((reader.info().width, reader.info().height))
            }
            [0xff, 0xd8, 0xff, ..] => {
                jpeg_size(&mut jpeg_decoder::Decoder::new(Cursor::new(bytes)))
            }
            [
                b'R',
                b'I',
                b'F',
                b'F',
                _,
                _,
                _,
                _,
                b'W',
                b'E',
                b'B',
                b'P',
                ..,
            ] => Ok(image_webp::WebPDecoder::new(Cursor::new(bytes))?.dimensions()),
            _ => Err(RasterError::Format(other_format(bytes))),
        }
    }

    /// The same, refused as [`Self::decode`] refuses it.
    pub fn size_within(bytes: &[u8], max_side: u32) -> Result<(u32, u32), RasterError> {
        let (width, height) = Self::size(bytes)?;
        check_size(width, height, max_side)?;
        Ok((width, height))
    }

    /// Refuses a file that was cut off, without decoding it: a PNG without its last chunk, a JPEG without
    /// the marker of its end, a WebP that says to be longer.
    pub fn check_whole(bytes: &[u8]) -> Result<(), RasterError> {
        let whole = match bytes {
            [0x89, b'P', b'N', b'G', ..] => png_ends(bytes),
            [b'R', b'I', b'F', b'F', ..] => webp_ends(bytes),
            _ => bytes.windows(2).rev().any(|pair| pair == [0xff, 0xd9]),
        };
        whole.then_some(()).ok_or(RasterError::CutOff)
    }

    /// Decodes a PNG, a JPEG or a WebP, told apart by their first bytes. Sides over `max_side` are refused.
    pub fn decode(bytes: &[u8], max_side: u32) -> Result<Self, RasterError> {
        match bytes {
            [0x89, b'P', b'N', b'G', ..] => Self::from_png(bytes, max_side),
            [0xff, 0xd8, 0xff, ..] => Self::from_jpeg(bytes, max_side),
            [
                b'R',
                b'I',
                b'F',
                b'F',
                _,
                _,
                _,
                _,
                b'W',
                b'E',
                b'B',
                b'P',
                ..,
            ] => Self::from_webp(bytes, max_side),
            _ => Err(RasterError::Format(other_format(bytes))),
        }
    }

    /// Decodes a WebP, with losses or without, to straight alpha; of a moving one the first picture. Pictures with
    /// losses are within a few levels of libwebp's, which smooths their colours otherwise.
    pub fn from_webp(bytes: &[u8], max_side: u32) -> Result<Self, RasterError> {
        let mut decoder = image_webp::WebPDecoder::new(Cursor::new(bytes))?;
        let (width, height) = decoder.dimensions();
        check_size(width, height, max_side)?;
        let channels = if decoder.has_alpha() { 4 } else { 3 };
        let mut data = vec![0; width as usize * height as usize * channels];
        decoder.read_image(&mut data)?;
        let rgba = match channels {
            4 => data,
            _ => expand(&data, |[r, g, b]: [u8; 3]| [r, g, b]),
        };
        Ok(Raster {
            width,
            height,
            rgba,
        })
    }

    /// Decodes any JPEG, colour, grey or four-colour, to opaque pixels; within two levels of libjpeg's.
    pub fn from_jpeg(bytes: &[u8], max_side: u32) -> Result<Self, RasterError> {
        let mut decoder = jpeg_decoder::Decoder::new(Cursor::new(bytes));
        let (width, height) = jpeg_size(&mut decoder)?;
        check_size(width, height, max_side)?;
        let data = decoder.decode()?;
        let format = decoder
            .info()
            .map_or(PixelFormat::RGB24, |i| i.pixel_format);
        let rgba = match format {
            PixelFormat::RGB24 => expand(&data, |[r, g, b]: [u8; 3]| [r, g, b]),
            PixelFormat::L8 => expand(&data, |[level]: [u8; 1]| [level; 3]),
            // Big-endian: the first byte is the level in 8 bits.
            PixelFormat::L16 => expand(&data, |[level, _]: [u8; 2]| [level; 3]),
            // Ink on white, as Pillow multiplies it out.
            PixelFormat::CMYK32 => expand(&data, |[c, m, y, k]: [u8; 4]| {
                [c, m, y].map(|ink| {
                    let left = u32::from(255 - ink) * u32::from(255 - k) + 128;
                    (((left >> 8) + left) >> 8) as u8
                })
            }),
        };
        Ok(Raster {
            width,
            height,
            rgba,
        })
    }

    /// Decodes any PNG; palettes, grey and 16-bit images become 8-bit RGBA. Sides over `max_side` are refused.
    pub fn from_png(bytes: &[u8], max_side: u32) -> Result<Self, RasterError> {
        let mut decoder = png::Decoder::new(Cursor::new(bytes));
        decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
        let mut reader = decoder.read_info()?;
        let (width, height) = (reader.info().width, reader.info().height);
        check_size(width, height, max_side)?;
        let too_large = RasterError::TooLarge {
            width,
            height,
            max: max_side,
        };
        let mut data = vec![0; reader.output_buffer_size().ok_or(too_large)?];
        let frame = reader.next_frame(&mut data)?;
        data.truncate(frame.buffer_size());
        let rgba = match frame.color_type {
            png::ColorType::Rgba => data,
            png::ColorType::Rgb => data
                .as_chunks::<3>()
                .0
                .iter()
                .flat_map(|p| [p[0], p[1], p[2], 255])
                .collect(),
            png::ColorType::GrayscaleAlpha => data
                .as_chunks::<2>()
                .0
                .iter()
                .flat_map(|p| [p[0], p[0], p[0], p[1]])
                .collect(),
            _ => data.iter().flat_map(|&v| [v, v, v, 255]).collect(),
        };
        Ok(Raster {
            width,
            height,
            rgba,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn png_round_trip_keeps_every_byte() {
        let raster = Raster {
            width: 2,
            height: 1,
            rgba: vec![1, 2, 3, 4, 250, 251, 252, 253],
        };
        let png = raster.to_png().unwrap();
        assert_eq!(Raster::from_png(&png, 16).unwrap(), raster);
        assert_eq!(Raster::size(&png).unwrap(), (2, 1));
        assert!(Raster::size(&png[..20]).is_err() && Raster::size(b"GIF89a").is_err());
        assert!(matches!(
            Raster::from_png(&png, 1),
            Err(RasterError::TooLarge { .. })
        ));
    }

    #[test]
    fn half_transparent_black_over_white_is_grey() {
        let raster = Raster {
            width: 1,
            height: 1,
            rgba: vec![0, 0, 0, 128],
        };
        assert_eq!(raster.rgb_over([255; 3]), [127, 127, 127]);
    }
}
