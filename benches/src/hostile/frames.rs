//! HTTP/2 frames written by hand (RFC 9113, section 4.1), for what no library sends.

/// What a client's connection begins with.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_HEADERS: u8 = 4;

/// The largest payload that a peer takes without having said so.
pub(crate) const LARGEST_PAYLOAD: usize = 16_384;
/// Bytes before each payload.
pub(crate) const HEADER_BYTES: usize = 9;

/// A frame of any kind: length (24 bits), kind, flags, stream, payload.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(HEADER_BYTES + payload.len());
    frame.extend_from_slice(&length.to_be_bytes()[1..]);
    frame.extend([kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Preface and empty settings: a connection that may begin with requests.
pub(crate) fn opening() -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes
}

/// The headers of a gRPC call, without compression (RFC 7541, sections 6.1 and 6.2.2; the numbers are entries of
/// its static table).
pub(crate) fn call_headers(path: &str) -> Vec<u8> {
    // :method POST, :scheme http.
    let mut block = vec![0x83, 0x86];
    block.push(0x04);
    block.extend(text(path));
    block.push(0x01);
    block.extend(text("localhost"));
    // content-type, number 31, does not fit the four bits of the first byte.
    block.extend([0x0f, 31 - 15]);
    block.extend(text("application/grpc"));
    block.extend(header("te", "trailers"));
    block
}

/// A header by name and value.
pub(crate) fn header(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(text(name));
    bytes.extend(text(value));
    bytes
}

/// A string with its length in front: 7 bits, and what is more in groups of 7 (RFC 7541, section 5.1).
fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 4);
    let mut length = text.len();
    if length < 127 {
        bytes.push(length as u8);
    } else {
        bytes.push(127);
        length -= 127;
        while length >= 128 {
            bytes.push((length % 128) as u8 | 128);
            length /= 128;
        }
        bytes.push(length as u8);
    }
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// The stream that a client opens as its `number`th; clients have the odd ones.
pub(crate) fn stream(number: u32) -> u32 {
    2 * number + 1
}

/// Kind and length of payload of the frame that these bytes begin.
pub(crate) fn kind_and_length(header: [u8; HEADER_BYTES]) -> (u8, usize) {
    let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
    (header[3], length as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_says_how_long_it_is() {
        let ping = frame(PING, 0, 0, &[7; 8]);
        assert_eq!(ping[..9], [0, 0, 8, 6, 0, 0, 0, 0, 0]);
        let header = std::array::from_fn(|at| ping[at]);
        assert_eq!(kind_and_length(header), (PING, 8));
    }

    #[test]
    fn long_texts_have_long_lengths() {
        assert_eq!(text("ab"), [2, b'a', b'b']);
        // The example of RFC 7541, C.1.2, with a prefix of 7 bits: 1337 = 127 + 1210.
        assert_eq!(text(&"x".repeat(1337))[..3], [127, 0xba, 0x09]);
    }
}
