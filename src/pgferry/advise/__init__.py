"""`pgferry advise`: pool sizes from arrival rate and holding time, by queueing theory and simulation."""
