//! `./study breakeven`: under which conditions which architecture wins.

pub mod grid;
