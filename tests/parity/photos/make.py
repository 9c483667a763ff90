"""Writes picture files of the odd kinds beside it, and to expected.json what transformers' `load_image` (Pillow's decoder,
`exif_transpose`) makes of each: width, height and the RGB bytes in base64. Photographs turned all eight ways, said by Exif
in either byte order, in a PNG, or by XMP alone; progressive and four-colour JPEG; 16-bit and transparent PNG;
WebP with and without losses.
"""

import base64
import io
import json
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo
from transformers.image_transforms import convert_to_rgb
from PIL import ImageOps

HERE = pathlib.Path(__file__).parent


def drawing(mode="RGB"):
    image = Image.new("RGB", (40, 24), (240, 240, 230))
    draw = ImageDraw.Draw(image)
    draw.rectangle((2, 2, 17, 9), fill=(200, 30, 40))
    draw.polygon([(20, 22), (38, 22), (38, 4)], fill=(20, 60, 220))
    return image.convert(mode)


def exif(orientation, order="<"):
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0" + mark + struct.pack(order + "IH", 8, 1) + entry + struct.pack(order + "I", 0)


def xmp(orientation):
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{orientation}"/>'
        "</rdf:RDF></x:xmpmeta>"
    ).encode()


def ycck(path):
    """A four-colour JPEG whose colours are YCC, as Photoshop writes them: the Adobe segment's transform is 2."""
    buffer = io.BytesIO()
    drawing("CMYK").save(buffer, "JPEG", quality=95, subsampling=0)
    data = bytearray(buffer.getvalue())
    at = data.find(b"Adobe")
    assert at > 0
    data[at + 11] = 2
    path.write_bytes(bytes(data))


def sixteen(path, channels):
    """A 16-bit PNG of `channels` channels, which Pillow does not write."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 65536, (10, 14, channels), dtype=np.uint16).astype(">u2")
    lines = b"".join(b"\0" + line.tobytes() for line in values)
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", 14, 10, 16, colour, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))


def files():
    for orientation in range(1, 9):
        order = "<" if orientation % 2 else ">"
        drawing().save(HERE / f"turned_{orientation}.jpg", quality=95, subsampling=0, exif=exif(orientation, order))
    drawing().save(HERE / "turned_xmp.jpg", quality=95, subsampling=0, xmp=xmp(6))
    drawing().save(HERE / "turned.png", exif=exif(8))
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp(5).decode())
    drawing().save(HERE / "turned_xmp.png", pnginfo=info)
    drawing().save(HERE / "progressive.jpg", quality=95, subsampling=0, progressive=True)
    drawing("CMYK").save(HERE / "cmyk.jpg", quality=95, subsampling=0)
    ycck(HERE / "ycck.jpg")
    for channels, name in ((2, "grey_alpha"), (3, "rgb"), (4, "rgba")):
        sixteen(HERE / f"sixteen_{name}.png", channels)
    grey = drawing("L")
    grey.save(HERE / "grey_clear.png", transparency=grey.getpixel((0, 0)))
    drawing().save(HERE / "rgb_clear.png", transparency=drawing().getpixel((0, 0)))
    drawing().save(HERE / "turned.webp", lossless=True, exif=exif(6, ">"))
    drawing().save(HERE / "turned_xmp.webp", lossless=True, xmp=xmp(3))
    clear = drawing("RGBA")
    clear.putalpha(drawing("L"))
    clear.save(HERE / "clear.webp", lossless=True, exact=True)
    drawing().save(HERE / "lossy.webp", quality=90)
    return sorted(path for path in HERE.iterdir() if path.suffix in (".png", ".jpg", ".webp"))


if __name__ == "__main__":
    expected = {}
    for path in files():
        image = ImageOps.exif_transpose(Image.open(path))
        pixels = convert_to_rgb(image, return_numpy=True)
        height, width, _ = pixels.shape
        expected[path.name] = {"size": [width, height], "rgb": base64.b64encode(pixels.tobytes()).decode()}
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
