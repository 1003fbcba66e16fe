"""Switch plans after a fault: what may be switched, the search, the fallback, the order."""
