//! What every controller needs: stores, drivers, leases, events, conditions.
