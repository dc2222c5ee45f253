#!/bin/sh
# MLflow quotes the arguments of a job for a shell, but starts it without one. This script removes the quotes.
eval "exec $*"
