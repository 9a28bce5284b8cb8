"""The commands of the workstation, a file each."""
