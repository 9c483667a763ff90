//! Drawing a prepared document with resvg. Images named by a document resolve to nothing, so no file
//! and no address is ever opened.

use crate::config::Background;
use crate::failure::{Failure, Reason};
use crate::fonts;
use crate::raster::Raster;
use resvg::tiny_skia::{IntSize, Pixmap, Transform};
use resvg::usvg::{ImageHrefResolver, Options, Tree, roxmltree::Document};

/// Draws a document whose root has the canvas' size (pixels).
pub(crate) fn draw(
    document: &Document<'_>,
    canvas: (u32, u32),
    options: DrawOptions,
) -> Result<Raster, Failure> {
    let failed = |detail: String| Failure::new(Reason::RenderFailed, detail);
    let tree = Tree::from_xmltree(document, &usvg_options(options.system_fonts))
        .map_err(|e| failed(e.to_string()))?;
    let pixels = canvas.0 as usize * canvas.1 as usize;
    let filled = match options.background.rgb() {
        Some([255, 255, 255]) => vec![255; 4 * pixels],
        Some([r, g, b]) => [r, g, b, 255].repeat(pixels),
        None => vec![0; 4 * pixels],
    };
    let mut pixmap = IntSize::from_wh(canvas.0, canvas.1)
        .and_then(|size| Pixmap::from_vec(filled, size))
        .ok_or_else(|| failed("the canvas is empty".into()))?;
    resvg::render(&tree, Transform::identity(), &mut pixmap.as_mut());
    let mut rgba = pixmap.take();
    if options.background.rgb().is_none() {
        straighten(&mut rgba);
    }
    Ok(Raster {
        width: canvas.0,
        height: canvas.1,
        rgba,
    })
}

/// What a drawing depends on besides the document.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct DrawOptions {
    pub background: Background,
    pub system_fonts: bool,
}

/// Pixels of text that names no size, as browsers and CairoSVG have it; `em` and `ex` go by it too.
const FONT_SIZE: f32 = 16.0;

fn usvg_options(system_fonts: bool) -> Options<'static> {
    Options {
        fontdb: fonts::database(system_fonts),
        font_family: fonts::DEFAULT_FAMILY.into(),
        font_size: FONT_SIZE,
        image_href_resolver: ImageHrefResolver {
            resolve_data: Box::new(|_, _, _| None),
            resolve_string: Box::new(|_, _| None),
        },
        ..Options::default()
    }
}

/// Premultiplied to straight alpha, in place.
fn straighten(rgba: &mut [u8]) {
    for pixel in rgba.as_chunks_mut::<4>().0 {
        let alpha = u32::from(pixel[3]);
        if alpha != 0 && alpha != 255 {
            for channel in &mut pixel[..3] {
                *channel = ((u32::from(*channel) * 255 + alpha / 2) / alpha).min(255) as u8;
            }
        }
    }
}
