"""POST /v1/completions."""

from fastapi import APIRouter

router = APIRouter()
