//! `./study rate`: the highest arrival rate that a mode sustains.

pub mod curve;
