//! konnector
