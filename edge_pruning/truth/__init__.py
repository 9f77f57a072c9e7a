"""The true circuits of compiled programs: how they are found, stored, and compared with a found circuit."""
