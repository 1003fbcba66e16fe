"""What makes a proposed load transfer safe, and the certificate of it."""
