//! HTTP/1, as every front on the HTTP port has it: how calls are let in ([`calls`]), how a message is read
//! ([`message`]), and the probes, which no front answers ([`probes`]).

pub(crate) mod calls;
pub(crate) mod message;
pub(crate) mod probes;
pub(crate) mod request_id;
