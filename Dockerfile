# PaliTune with PyTorch for CUDA; docs/install.md says how it is built and run.
FROM python:3.12-slim-bookworm

# Java for the scores of captions; a C compiler for --compile
RUN apt-get update \
    && apt-get install --yes --no-install-recommends default-jre-headless gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/palitune
COPY . .
RUN pip install --no-cache-dir --constraint constraints.txt ".[demo]"

# models, data of the Hub and drawn samples; writable whoever runs the container
ENV HF_HOME=/cache/huggingface PALITUNE_CACHE=/cache/palitune
RUN useradd --create-home palitune && mkdir --mode 1777 /cache /work
USER palitune
WORKDIR /work
ENTRYPOINT ["palitune"]
CMD ["--help"]
