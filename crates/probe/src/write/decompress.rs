//! gzip, zstd and xz, told by their first bytes. All in Rust: what comes is outside input, and the reader is PID 1.

use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;
use std::io::{self, BufRead, BufReader, Read};

/// The compression's name: as it was said, else by the first bytes.
///
/// # Errors
/// Where a name was said that is not known, or that the bytes contradict.
pub fn name(said: &str, first: &[u8]) -> Result<&'static str, String> {
    let seen = match first {
        [0x1f, 0x8b, ..] => "gzip",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "xz",
        _ => "none",
    };
    match said {
        "" => Ok(seen),
        // An image that happens to begin so is taken at its word.
        "none" => Ok("none"),
        "gzip" | "zstd" | "xz" if said == seen => Ok(seen),
        "gzip" | "zstd" | "xz" => Err(format!("the image is not compressed by {said}")),
        other => Err(format!("the compression {other} is not known")),
    }
}

/// A reader of what is inside.
///
/// # Errors
/// Where the first bytes make no sense.
pub fn decoder<'a>(name: &str, source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let source = BufReader::with_capacity(256 << 10, source);
    Ok(match name {
        "gzip" => Box::new(MultiGzDecoder::new(source)),
        "zstd" => Box::new(Frames {
            source: Some(source),
            decoder: None,
        }),
        "xz" => Box::new(XzReader::new(source, true)),
        _ => Box::new(source),
    })
}

/// A zstd file may be several frames one after the other (as pzstd and `cat` make them).
struct Frames<R: BufRead> {
    source: Option<R>,
    decoder: Option<StreamingDecoder<R, ruzstd::decoding::FrameDecoder>>,
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(decoder) = &mut self.decoder {
                let length = decoder.read(buffer)?;
                if length > 0 || buffer.is_empty() {
                    return Ok(length);
                }
            }
            if let Some((source, frame)) = self.decoder.take().map(StreamingDecoder::into_parts) {
                if let (Some(said), Some(seen)) = (
                    frame.get_checksum_from_data(),
                    frame.get_calculated_checksum(),
                ) && said != seen
                {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "a zstd frame's checksum is wrong",
                    ));
                }
                self.source = Some(source);
            }
            let Some(mut source) = self.source.take() else {
                return Ok(0);
            };
            if source.fill_buf()?.is_empty() {
                return Ok(0);
            }
            self.decoder =
                Some(StreamingDecoder::new(source).map_err(|error| {
                    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
                })?);
        }
    }
}
