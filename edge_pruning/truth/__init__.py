"""The true circuits of compiled programs: how they are found, kept in files, and compared with what a method found."""
