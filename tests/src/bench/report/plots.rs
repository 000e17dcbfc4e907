//! Plots of the results.
