//! A fleet of simulated machines that speak Redfish.
