"""The commands of the device, a file each."""
