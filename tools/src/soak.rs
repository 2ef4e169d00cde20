//! A lab kept busy for hours: what follows from a seed is done to it, while traffic says who it is.
//!
//! [`schedule`] is what is done, and follows from the seed alone; [`site`] is the lab; [`switch`] its
//! process; [`clients`] are those whose traffic must get to the right place, or to none; [`leaks`] is
//! what must not grow; [`run`] puts all of it together, and [`report`] says how it went.

pub mod clients;
pub mod findings;
pub mod leaks;
pub mod report;
pub mod run;
pub mod schedule;
pub mod serve;
pub mod site;
pub mod switch;
pub mod talk;
pub mod witness;
