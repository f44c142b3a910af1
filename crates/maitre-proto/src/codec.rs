//! How servers take messages off the wire: as bytes, which they decode where they want to.
//!
//! A message of 4 MiB may hold hundreds of thousands of empty ones. Decoding it takes tens of milliseconds and tens of
//! times its size in memory, which the thread that serves the network does not have.

use std::marker::PhantomData;

use prost::bytes::{Buf as _, Bytes};
use prost::{DecodeError, Message};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstEncoder};

/// A message of type `M` as it came.
#[derive(Debug, Clone)]
pub struct Encoded<M> {
    bytes: Bytes,
    message: PhantomData<fn() -> M>,
}

impl<M: Message + Default> Encoded<M> {
    /// A message that came as `bytes`.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self {
            bytes,
            message: PhantomData,
        }
    }

    /// Its size in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it is the empty message, whose fields all have their defaults.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The message.
    ///
    /// # Errors
    ///
    /// The bytes are no message of this type.
    pub fn decode(self) -> Result<M, DecodeError> {
        M::decode(self.bytes)
    }
}

/// Protobuf as [`ProstCodec`] does it, but requests stay [`Encoded`].
#[derive(Debug)]
pub struct ServerCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for ServerCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, M> Codec for ServerCodec<T, Encoded<M>>
where
    T: Message + Send + 'static,
    M: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = Encoded<M>;
    type Encoder = ProstEncoder<T>;
    type Decoder = ServerDecoder<M>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, M>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        ServerDecoder(PhantomData)
    }
}

/// The decoder of [`ServerCodec`].
#[derive(Debug)]
pub struct ServerDecoder<M>(PhantomData<fn() -> M>);

impl<M: Message + Default> Decoder for ServerDecoder<M> {
    type Item = Encoded<M>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Encoded<M>>, Status> {
        // The bytes are taken over, not copied.
        Ok(Some(Encoded::new(buffer.copy_to_bytes(buffer.remaining()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::AbortRequest;

    #[test]
    fn what_is_no_message_is_known_only_when_it_is_decoded() {
        let message = AbortRequest {
            request_id: "a".to_owned(),
            ..Default::default()
        };
        let encoded = Encoded::<AbortRequest>::new(message.encode_to_vec().into());
        assert_eq!(encoded.len(), 3);
        assert_eq!(encoded.decode().unwrap(), message);
        let broken = Encoded::<AbortRequest>::new(Bytes::from_static(&[0xff; 100]));
        assert_eq!(broken.len(), 100);
        assert!(broken.decode().is_err());
        let empty = Encoded::<AbortRequest>::new(Bytes::new());
        assert!(empty.is_empty());
        assert_eq!(empty.decode().unwrap(), AbortRequest::default());
    }
}
