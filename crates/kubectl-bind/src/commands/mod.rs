//! One file a command: reads its arguments, calls the rooms below, prints.

pub(crate) mod apiservice;
pub(crate) mod bind;
pub(crate) mod catalogue;
pub(crate) mod claims;
pub(crate) mod konnector;
pub(crate) mod login;
pub(crate) mod offer;
pub(crate) mod provider;
pub(crate) mod status;
pub(crate) mod unbind;
