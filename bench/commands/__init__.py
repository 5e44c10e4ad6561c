"""What the commands of ``bench`` do, a file each."""
