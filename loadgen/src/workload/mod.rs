//! What a flow does with its connection. When it does it is the pace's business.

pub mod request;
