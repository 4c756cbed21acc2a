# minivault in a small image: Node and one file.
#   docker build -t minivault .
#   docker run -p 3000:3000 -v minivault:/data minivault
FROM node:24-trixie-slim@sha256:173f125896c3b47ddf056734c7ea789d04595a6a08769a8f78e0df642781fb66 AS build
RUN apt-get update \
  && apt-get install -y --no-install-recommends python3 make g++ \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
RUN npm ci --include=dev
COPY native ./native
RUN node native/prepare.mjs
COPY esbuild.config.mjs tsconfig.json ./
COPY src ./src
# docker build --build-arg COMMIT=$(git rev-parse --short HEAD) puts it into -version.
ARG COMMIT=unknown
RUN BUILD_COMMIT=$COMMIT node esbuild.config.mjs

FROM node:24-trixie-slim@sha256:173f125896c3b47ddf056734c7ea789d04595a6a08769a8f78e0df642781fb66
RUN groupadd --system --gid 10001 minivault \
  && useradd --system --uid 10001 --gid minivault --home-dir /data --shell /usr/sbin/nologin minivault \
  && mkdir -p /data && chown minivault:minivault /data && chmod 700 /data
COPY --from=build /build/dist/minivault.js /app/minivault.js
USER minivault
WORKDIR /data
VOLUME /data
EXPOSE 3000
# Another port is set with MINIVAULT_PORT, so that this check finds it; whether it speaks https the check finds out.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["node", "/app/minivault.js", "health"]
ENTRYPOINT ["node", "/app/minivault.js"]
CMD ["-data", "/data"]
