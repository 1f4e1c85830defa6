"""What a profile says, for people: records, tables, and a page with plots."""
